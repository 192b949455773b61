"""Qwen3-ASR as stacks of canary_hub: the family, its components, `qwen3-asr-0.6b` and `qwen3-asr-1.7b`. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from canary_hub.hookspecs import hookimpl
from canary_hub.models.causal_lm.options import GenerateCall
from canary_hub.models.families.family import FILES, Family, Size, component
from canary_hub.specs import ComponentSpec, Options, StackSpec, Stage, WeightsRef

CANARY_HUB_API = 2

_HERE = "canary_hub_qwen3_asr"
_PUBLISHED = Path(__file__).parent / "published"

CHUNK = 100
"""Feature frames (1 s) that the convolutions see at a time; transformers' encoder computes this size only, for
its 13 positions."""
CHUNK_FRAMES = 13

FAMILY = Family(
    role="qwen3-asr",
    model="Qwen3ASRForConditionalGeneration",
    token="<|audio_pad|>",
    chat="qwen3-asr",
    n_mels=Size(("audio_config.num_mel_bins",), 128),
    d_model=Size(("audio_config.d_model",)),
    hidden_size=Size(("text_config.hidden_size",)),
    hidden_hz=float(CHUNK_FRAMES),
)

SMALL = WeightsRef(
    repo="Qwen/Qwen3-ASR-0.6B-hf",
    revision="7f1569a48a89f3e3f4dc3a5c9d28bddd903bc76c",
    files=FILES,
    config=_PUBLISHED / "config-0.6b.json",
    gib=1.5,
)
LARGE = WeightsRef(
    repo="Qwen/Qwen3-ASR-1.7B-hf",
    revision="bcd2b5b7f32b480ab5790554cfa8347f246a14f3",
    files=FILES,
    config=_PUBLISHED / "config-1.7b.json",
    gib=3.8,
)
"""The checkpoints in transformers' own layout; Qwen/Qwen3-ASR-0.6B and -1.7B hold the same tensors under the names
of the qwen-asr package, which no module of transformers reads."""

Language = Literal[
    "", "Arabic", "Cantonese", "Chinese", "Czech", "Danish", "Dutch", "English", "Filipino", "Finnish", "French",
    "German", "Greek", "Hindi", "Hungarian", "Indonesian", "Italian", "Japanese", "Korean", "Macedonian", "Malay",
    "Persian", "Polish", "Portuguese", "Romanian", "Russian", "Spanish", "Swedish", "Thai", "Turkish", "Vietnamese",
]  # fmt: skip
"""The names the model was trained with. Source: transformers 5.23 `processing_qwen3_asr.py`."""


class TranscribePromptCall(Options):
    """What is known about the audio before it is heard."""

    language: Language = Field("", description="Language of the audio; empty: the model says which it hears")
    context: str = Field("", max_length=10_000, description="Names, terms or a topic to expect, in any words")


_part = partial(component, FAMILY, SMALL)

FIVE = (
    _part(
        Stage.PREPROCESSOR,
        "qwen3-asr/log-mel",
        f"{_HERE}.components:log_mel",
        "Whisper's log-mel without padding to 30 s",
    ),
    _part(
        Stage.ENCODER,
        "qwen3-asr/encoder",
        f"{_HERE}.components:encoder",
        "Convolutions over one-second chunks, attention over windows of 8 s",
    ),
    _part(
        Stage.PROJECTOR,
        "qwen3-asr/projector",
        f"{_HERE}.components:projector",
        "Two linear layers into the LLM's space",
    ),
    _part(
        Stage.PROMPT_TEMPLATE,
        "qwen3-asr/transcribe-prompt",
        f"{_HERE}.components:prompt",
        "The audio alone, with context and language where they are known",
        call_options=TranscribePromptCall,
    ),
    _part(
        Stage.LLM, "qwen3-asr/qwen3", f"{_HERE}.components:llm", "The Qwen3 inside Qwen3-ASR", call_options=GenerateCall
    ),
)


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages of Qwen3-ASR."""
    return FIVE


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The two published sizes. A minute of audio at a time is a choice: the model takes up to 20 minutes, at the
    price of attention over all of it and a late first word."""
    sizes = [("0.6b", "0.6B", SMALL, "1.5 GB to download"), ("1.7b", "1.7B", LARGE, "3.8 GB to download")]
    return [
        StackSpec(
            name=f"qwen3-asr-{name}",
            title=f"Qwen3-ASR {title}",
            note=f"Alibaba's recogniser for 30 languages: {cost}.",
            components={part.stage: part.id for part in FIVE},
            weights={FAMILY.role: weights},
            window_seconds=60.0,
            dtype="bfloat16",
            chat=False,
        )
        for name, title, weights, cost in sizes
    ]

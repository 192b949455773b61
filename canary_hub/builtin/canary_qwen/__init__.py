"""The Canary-Qwen components and the stack `canary-qwen-2.5b`, registered like any plugin's.

Every size comes from the checkpoint's config.json and the base LLM's; other checkpoints in the
same layout (such as `nano`) use the same components.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ...hookspecs import hookimpl
from ...specs import ComponentSpec, StackSpec, Stage, WeightsRef
from .options import ChatPromptCall, Qwen3Call

CHECKPOINT = "canary"
BASE_LLM = "canary-llm"
"""The roles of the weights: the checkpoint itself, and the base LLM's config and tokenizer."""

_HERE = "canary_hub.builtin.canary_qwen"
_PUBLISHED = Path(__file__).parent / "published"

PUBLISHED = WeightsRef(
    repo="nvidia/canary-qwen-2.5b",
    revision="6cfc37ec7edc35a0545c403f551ecdfa28133d72",
    config=_PUBLISHED / "config.json",
    gib=4.8,
)
PUBLISHED_LLM = WeightsRef(
    repo="Qwen/Qwen3-1.7B",
    revision="70d244cc86ccca08cf5af4e1e306ecf908b1ad5e",
    files=("tokenizer.json", "tokenizer_config.json"),
    config=_PUBLISHED / "llm_config.json",
)

COMPONENTS = {
    Stage.PREPROCESSOR: "canary/log-mel",
    Stage.ENCODER: "canary/fastconformer",
    Stage.PROJECTOR: "canary/linear",
    Stage.PROMPT_TEMPLATE: "canary/chat-prompt",
    Stage.LLM: "canary/qwen3",
}


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages, and the live PEFT adapter as a second LLM backend."""
    both = {CHECKPOINT: PUBLISHED, BASE_LLM: PUBLISHED_LLM}
    return [
        ComponentSpec(
            stage=Stage.PREPROCESSOR,
            id="canary/log-mel",
            title="Log-mel with the checkpoint's own filterbank and window",
            factory=f"{_HERE}.log_mel:build",
            contract=f"{_HERE}.ports:log_mel",
            weights=both,
        ),
        ComponentSpec(
            stage=Stage.ENCODER,
            id="canary/fastconformer",
            title="FastConformer, full attention",
            factory=f"{_HERE}.fastconformer:build",
            contract=f"{_HERE}.ports:fastconformer",
            weights=both,
        ),
        ComponentSpec(
            stage=Stage.PROJECTOR,
            id="canary/linear",
            title="One linear layer into the LLM's space",
            factory=f"{_HERE}.projector:build",
            contract=f"{_HERE}.ports:linear",
            weights=both,
        ),
        ComponentSpec(
            stage=Stage.PROMPT_TEMPLATE,
            id="canary/chat-prompt",
            title='"Transcribe the following: " and the audio, as one user message',
            factory=f"{_HERE}.prompts:build",
            contract=f"{_HERE}.ports:chat_prompt",
            weights={CHECKPOINT: PUBLISHED},
            call_options=ChatPromptCall,
        ),
        ComponentSpec(
            stage=Stage.LLM,
            id="canary/qwen3",
            title="Qwen3 with LoRA merged at load; the base weights stay for LLM mode",
            factory=f"{_HERE}.qwen3:build",
            contract=f"{_HERE}.ports:qwen3",
            weights=both,
            call_options=Qwen3Call,
            chat=True,
        ),
        ComponentSpec(
            stage=Stage.LLM,
            id="canary/qwen3-peft",
            title="Qwen3 with LoRA live, as PEFT runs it",
            factory=f"{_HERE}.qwen3_peft:build",
            contract=f"{_HERE}.ports:qwen3",
            weights=both,
            call_options=Qwen3Call,
            requires=("peft",),
            install="pip install peft",
            chat=True,
        ),
    ]


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The published model."""
    return [
        StackSpec(
            name="canary-qwen-2.5b",
            title="Canary-Qwen 2.5B",
            note="NVIDIA's English recogniser: 5 GB to download, about 6 GB of memory.",
            components=COMPONENTS,
            weights={CHECKPOINT: PUBLISHED, BASE_LLM: PUBLISHED_LLM},
            window_seconds=40.0,
            dtype="bfloat16",
        )
    ]

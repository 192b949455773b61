"""The Canary-Qwen components and the stack `canary-qwen-2.5b`, registered like any plugin's.

Every size comes from the checkpoint's config.json and the base LLM's; other checkpoints in the
same layout (such as `nano`) use the same components.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...hookspecs import hookimpl
from ...specs import ENERGY, ComponentSpec, SegmenterSpec, StackSpec, Stage
from . import ports
from .checkpoint import BASE_LLM, CHECKPOINT, COMPONENTS, PUBLISHED, PUBLISHED_LLM
from .options import (
    ChatPromptCall,
    ContextPromptCall,
    CustomPromptCall,
    DenoiseLogMelBuild,
    FastConformerLocalBuild,
    Qwen3Call,
    ScaledBuild,
)

_HERE = "canary_hub.models.canary_qwen"


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages of the published model, and what may be tried in their places."""
    both = {CHECKPOINT: PUBLISHED, BASE_LLM: PUBLISHED_LLM}
    return [
        ComponentSpec(
            stage=Stage.PREPROCESSOR,
            id="canary/log-mel",
            title="Log-mel with the checkpoint's own filterbank and window",
            factory=f"{_HERE}.log_mel:build",
            contract=ports.log_mel,
            weights=both,
        ),
        ComponentSpec(
            stage=Stage.PREPROCESSOR,
            id="librosa/log-mel",
            title="The same log-mel by librosa alone, without the checkpoint's tensors: equal to 1e-3 on speech",
            factory=f"{_HERE}.log_mel_librosa:build",
            contract=ports.log_mel,
            weights={CHECKPOINT: PUBLISHED},
        ),
        ComponentSpec(
            stage=Stage.PREPROCESSOR,
            id="canary/denoise-log-mel",
            title="Steady noise (fans, hiss) turned down by a spectral gate, then log-mel: for noisy rooms",
            factory=f"{_HERE}.log_mel_denoised:build",
            contract=ports.denoise_log_mel,
            weights=both,
            build_options=DenoiseLogMelBuild,
        ),
        ComponentSpec(
            stage=Stage.ENCODER,
            id="canary/fastconformer",
            title="FastConformer, full attention",
            factory=f"{_HERE}.encoder:build",
            contract=ports.fastconformer,
            weights=both,
        ),
        ComponentSpec(
            stage=Stage.ENCODER,
            id="canary/fastconformer-local",
            title="FastConformer, limited-context attention: minutes of audio in one piece, memory linear in length",
            factory=f"{_HERE}.encoder_local:build",
            contract=ports.fastconformer,
            weights=both,
            build_options=FastConformerLocalBuild,
        ),
        ComponentSpec(
            stage=Stage.PROJECTOR,
            id="canary/linear",
            title="One linear layer into the LLM's space",
            factory=f"{_HERE}.projector:build_linear",
            contract=ports.linear,
            weights=both,
        ),
        ComponentSpec(
            stage=Stage.PROJECTOR,
            id="canary/scaled",
            title="canary/linear times a factor: how sensitive is the LLM to the size of audio embeddings?",
            factory=f"{_HERE}.projector:build_scaled",
            contract=ports.scaled,
            weights=both,
            build_options=ScaledBuild,
        ),
        ComponentSpec(
            stage=Stage.PROMPT_TEMPLATE,
            id="canary/chat-prompt",
            title='"Transcribe the following: " and the audio, as one user message',
            factory=f"{_HERE}.prompts:build",
            contract=ports.chat_prompt,
            weights={CHECKPOINT: PUBLISHED},
            call_options=ChatPromptCall,
        ),
        ComponentSpec(
            stage=Stage.PROMPT_TEMPLATE,
            id="canary/chat-prompt-audio",
            title='"Transcribe the following audio:" and the audio, the other wording in use',
            factory=f"{_HERE}.prompts:build_audio",
            contract=ports.chat_prompt,
            weights={CHECKPOINT: PUBLISHED},
        ),
        ComponentSpec(
            stage=Stage.PROMPT_TEMPLATE,
            id="canary/custom-prompt",
            title="Your own words around the audio, and a system message: how much does the wording matter?",
            factory=f"{_HERE}.prompts:build_custom",
            contract=ports.chat_prompt,
            weights={CHECKPOINT: PUBLISHED},
            call_options=CustomPromptCall,
        ),
        ComponentSpec(
            stage=Stage.PROMPT_TEMPLATE,
            id="canary/context-prompt",
            title="Names and terms to expect, said before the audio; the model was not trained for it",
            factory=f"{_HERE}.prompts:build_context",
            contract=ports.chat_prompt,
            weights={CHECKPOINT: PUBLISHED},
            call_options=ContextPromptCall,
        ),
        ComponentSpec(
            stage=Stage.LLM,
            id="canary/qwen3",
            title="Qwen3 with LoRA merged at load; the base weights stay for LLM mode",
            factory=f"{_HERE}.llm:build",
            contract=ports.qwen3,
            weights=both,
            call_options=Qwen3Call,
            chat=True,
        ),
        ComponentSpec(
            stage=Stage.LLM,
            id="canary/qwen3-peft",
            title="Qwen3 with LoRA live, as PEFT runs it",
            factory=f"{_HERE}.llm_peft:build",
            contract=ports.qwen3,
            weights=both,
            call_options=Qwen3Call,
            requires=("peft",),
            install="pip install peft",
            chat=True,
        ),
        ComponentSpec(
            stage=Stage.LLM,
            id="canary/qwen3-int8",
            title="Qwen3 with LoRA merged, int8 weights for single rows: faster tokens on the CPU",
            factory=f"{_HERE}.llm_int8:build",
            contract=ports.qwen3,
            weights=both,
            call_options=Qwen3Call,
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


@hookimpl
def canary_segmenters() -> Iterable[SegmenterSpec]:
    """The one of every stack that names no other."""
    return [SegmenterSpec(ENERGY, "canary_hub.audio.pauses:build", "Cuts where it is quietest over 250 ms")]

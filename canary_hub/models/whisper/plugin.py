"""The Whisper components and stacks, registered like any plugin's."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from ...hookspecs import hookimpl
from ...specs import ComponentSpec, Options, StackSpec, Stage, WeightsRef
from .checkpoint import WHISPER, published
from .options import EnglishPromptCall, MultilingualPromptCall, WhisperCall, WhisperLogMelBuild

_HERE = "canary_hub.models.whisper"

TINY_EN = published("tiny.en", "87c7102498dcde7456f24cfd30239ca606ed9063", 0.14)
BASE = published("base", "e37978b90ca9030d5170a5c07aadb050351a65bb", 0.27)
BASE_EN = published("base.en", "911407f4214e0e1d82085af863093ec0b66f9cd6", 0.27)
SMALL_EN = published("small.en", "e8727524f962ee844a7319d92be39ac1bd25655a", 0.90)
TURBO = published("large-v3-turbo", "41f01f3fe87f28c78e2fbf8b568835947dd65ed9", 1.51)


def _component(
    stage: Stage,
    id: str,
    title: str,
    factory: str,
    contract: str,
    build: type[Options] = Options,
    call: type[Options] = Options,
) -> ComponentSpec:
    return ComponentSpec(
        stage=stage,
        id=f"whisper/{id}",
        title=title,
        factory=f"{_HERE}.{factory}",
        contract=f"{_HERE}.ports:{contract}",
        weights=MappingProxyType({WHISPER: TINY_EN}),
        build_options=build,
        call_options=call,
    )


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """The five stages; the prompt for models of one language and of many."""
    yield _component(
        Stage.PREPROCESSOR, "log-mel", "Whisper's log-mel", "log_mel:build", "log_mel", build=WhisperLogMelBuild
    )
    yield _component(Stage.ENCODER, "encoder", "Whisper's encoder", "encoder:build", "encoder")
    yield _component(Stage.PROJECTOR, "identity", "The encoder's vectors as they are", "projector:build", "identity")
    yield _component(
        Stage.PROMPT_TEMPLATE,
        "prompt",
        "The audio, then: write what is said",
        "prompts:build",
        "prompt",
        call=EnglishPromptCall,
    )
    yield _component(
        Stage.PROMPT_TEMPLATE,
        "prompt-multilingual",
        "The audio, then its language and the task",
        "prompts:build",
        "prompt",
        call=MultilingualPromptCall,
    )
    yield _component(
        Stage.LLM,
        "decoder",
        "Whisper's decoder: looks at the audio by cross-attention, from outside its sequence",
        "llm:build",
        "decoder",
        call=WhisperCall,
    )


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The published models, from the smallest to the one that hears best."""
    yield _stack("tiny.en", TINY_EN, "English; small and quick.")
    yield _stack("base", BASE, "Many languages; small.", multilingual=True)
    yield _stack("base.en", BASE_EN, "English; small.")
    yield _stack("small.en", SMALL_EN, "English; hears well, also accents and noise.")
    yield _stack(
        "large-v3-turbo",
        TURBO,
        "Many languages; hears best of these: 1.6 GB to download.",
        multilingual=True,
        dtype="bfloat16",
    )


def _stack(name: str, weights: WeightsRef, note: str, multilingual: bool = False, dtype: str = "float32") -> StackSpec:
    return StackSpec(
        name=f"whisper-{name}",
        title=f"Whisper {name}",
        note=f"OpenAI's plain Whisper, no LLM behind it. {note}",
        components={
            Stage.PREPROCESSOR: "whisper/log-mel",
            Stage.ENCODER: "whisper/encoder",
            Stage.PROJECTOR: "whisper/identity",
            Stage.PROMPT_TEMPLATE: "whisper/prompt-multilingual" if multilingual else "whisper/prompt",
            Stage.LLM: "whisper/decoder",
        },
        weights={WHISPER: weights},
        window_seconds=30.0,
        dtype=dtype,
        chat=False,
    )

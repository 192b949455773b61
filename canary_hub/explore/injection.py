"""Exploration `injection`: how the audio gets into the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..audio.waveform import Waveform
from ..errors import HubError
from ..models.canary_qwen.layout import get
from ..run.injection import inject_audio_embeddings
from ..run.result import PromptToken
from ..specs import StackSpec, Stage
from .exploration import Exploration
from .prompt import Prompt, prompt_of_stack, prompt_without_weights
from .subject import Subject, embedded, first_window

if TYPE_CHECKING:
    import torch

    from ..hub import Hub

SHARES = (1.0, 0.5, 0.25)
"""The batch: the clip, its first half and its first quarter."""


@dataclass(frozen=True)
class BatchRow:
    """One row of the batch that goes to the LLM.

    seconds: of audio. frames: audio embeddings. padding: positions on the left that hold nothing.
    mask: 1 where the LLM looks, 0 in the padding.
    """

    seconds: float
    before: int
    frames: int
    after: int
    padding: int
    mask: tuple[int, ...]


@dataclass(frozen=True)
class Position:
    """One embedding of the single row. kind: "text" or "audio". norm: Euclidean; None without weights."""

    kind: str
    piece: str
    norm: float | None


@dataclass(frozen=True)
class Injection(Exploration):
    """The clip in the prompt. Counts, rows and positions are empty where no tokenizer is at hand.

    prompt_source: where the ids are from. placeholder_id: may lie past the embedding table, whose rows are
    `vocab_size`. frame_ms: of audio per frame.
    text_changed, audio_changed: the largest difference that injection made to a text or audio embedding;
    None without weights.
    """

    exploration: ClassVar[str] = "injection"

    prompt: tuple[PromptToken, ...]
    prompt_source: str
    placeholder_id: int | None
    place: int
    vocab_size: int | None
    hidden_size: int | None
    clip: str
    seconds: float
    frames: int
    frame_ms: float
    alone: BatchRow | None
    positions: tuple[Position, ...]
    text_changed: float | None
    audio_changed: float | None
    batch: tuple[BatchRow, ...]


def explore(
    hub: Hub,
    stack: str | StackSpec,
    *,
    audio: Any | None = None,
    dtype: str | None = None,
    device: str | None = None,
) -> Injection:
    """Put a clip into the stack's prompt, alone and in a batch with its beginnings.

    Without weights the clip's number of frames follows from the configuration and the embeddings are zeros:
    counts, places and masks are the real ones, values are not shown.

    Raises: AudioError; HubError when neither weights nor a configuration in the published layout are here.
    """
    import torch

    subject = Subject(hub, stack, dtype, device)
    if not subject.missing:
        with subject.load() as loaded:
            wave, limits = first_window(subject.spec, loaded.rate, audio)
            waves = _beginnings(wave)
            with torch.inference_mode():
                clips = embedded(loaded, waves)
                prompt = prompt_of_stack(loaded)
                table = loaded.component(Stage.LLM).embed
                return _result(subject, prompt, waves, clips, table, limits)
    if not subject.in_published_layout:
        raise HubError(f"Stack {subject.spec.name} needs its weights to be explored.", f"{subject.missing}.")
    rate = int(get(subject.config, "perception.preprocessor.sample_rate"))
    wave, limits = first_window(subject.spec, rate, audio)
    waves = _beginnings(wave)
    hidden_size = int(subject.llm_config["hidden_size"])
    if not frames_of(subject.config, len(wave.samples)):
        raise HubError(f"{wave.name} is shorter than one frame of audio.", "Give a longer clip.")
    clips = [torch.zeros(frames_of(subject.config, len(w.samples)), hidden_size) for w in waves]
    prompt = prompt_without_weights(subject)
    limits = (
        *limits,
        f"Norms and values of the embeddings need the weights. {subject.missing}.",
    )
    if prompt.ids is None:
        limits = (*limits, "Ids, counts and masks need the tokenizer, which comes with the base LLM.")
    elif prompt.source.startswith("a record"):
        limits = (*limits, f"The ids are {prompt.source}; another wording needs that tokenizer.")
    return _result(subject, prompt, waves, clips, None, limits)


def frames_of(config: Mapping[str, Any], samples: int) -> int:
    """How many audio frames FastConformer makes of so many samples.

    One log-mel frame per hop; then each of the log2(subsampling_factor) stride-2 convolutions (kernel 3,
    padding 1 on both sides) halves, rounding up.
    """
    pre = get(config, "perception.preprocessor")
    frames = samples // round(float(get(pre, "window_stride")) * int(get(pre, "sample_rate")))
    for _ in range(int(get(config, "perception.encoder.subsampling_factor")).bit_length() - 1):
        frames = (frames + 1) // 2
    return frames


def _frame_ms(subject: Subject) -> float | None:
    if not subject.in_published_layout:
        return None
    stride = float(get(subject.config, "perception.preprocessor.window_stride"))
    return 1000 * stride * int(get(subject.config, "perception.encoder.subsampling_factor"))


def _beginnings(wave: Waveform) -> list[Waveform]:
    from dataclasses import replace

    return [replace(wave, samples=wave.samples[: round(share * len(wave.samples))]) for share in SHARES]


def _result(
    subject: Subject,
    prompt: Prompt,
    waves: Sequence[Waveform],
    clips: Sequence[torch.Tensor],
    table: Any | None,
    limits: tuple[str, ...],
) -> Injection:
    """Inject, alone and as a batch, and look. `table` is ids -> embeddings; None stands for zeros."""
    import torch

    alone: BatchRow | None = None
    batch: tuple[BatchRow, ...] = ()
    positions: tuple[Position, ...] = ()
    changed: tuple[float | None, float | None] = (None, None)
    ids, place = prompt.ids, prompt.place
    if ids is not None and prompt.placeholder_id is not None:
        input_ids = torch.tensor([ids])
        hidden = clips[0].shape[-1]
        # The placeholder's id may lie past the table: any other id serves, for its embedding is dropped.
        shown = torch.where(input_ids == prompt.placeholder_id, 0, input_ids)
        text = torch.zeros(1, len(ids), hidden) if table is None else table(shown)
        embeds, mask = inject_audio_embeddings(input_ids, text, clips[:1], prompt.placeholder_id)
        alone = _row(waves[0], len(clips[0]), prompt, mask[0])
        if table is not None:
            changed = _changed(embeds[0], text[0], clips[0], place)
        positions = _positions(prompt, len(clips[0]), embeds[0] if table is not None else None)
        rows = len(clips)
        _, masks = inject_audio_embeddings(
            input_ids.expand(rows, -1), text.expand(rows, -1, -1), clips, prompt.placeholder_id
        )
        batch = tuple(_row(w, len(c), prompt, m) for w, c, m in zip(waves, clips, masks, strict=True))
    return Injection(
        stack=subject.spec.name,
        limits=limits,
        prompt=prompt.tokens,
        prompt_source=prompt.source,
        placeholder_id=prompt.placeholder_id,
        place=place,
        vocab_size=_vocab_size(subject),
        hidden_size=clips[0].shape[-1],
        clip=waves[0].name,
        seconds=waves[0].seconds,
        frames=len(clips[0]),
        frame_ms=_frame_ms(subject) or 1000 * waves[0].seconds / len(clips[0]),
        alone=alone,
        positions=positions,
        text_changed=changed[0],
        audio_changed=changed[1],
        batch=batch,
    )


def _vocab_size(subject: Subject) -> int | None:
    try:
        return int(subject.llm_config["vocab_size"])
    except (HubError, KeyError):  # a backend without a transformers config
        return None


def _row(wave: Waveform, frames: int, prompt: Prompt, mask: torch.Tensor) -> BatchRow:
    ones = tuple(int(bit) for bit in mask.tolist())
    after = len(prompt.tokens) - prompt.place - 1
    return BatchRow(wave.seconds, prompt.place, frames, after, ones.count(0), ones)


def _changed(embeds: torch.Tensor, text: torch.Tensor, clip: torch.Tensor, place: int) -> tuple[float, float]:
    """How far the row's embeddings are from the text's and the clip's own."""
    end = place + len(clip)
    differences = (embeds[:place] - text[:place], embeds[end:] - text[place + 1 :])
    moved = max((float(d.abs().max()) for d in differences if d.numel()), default=0.0)
    return moved, float((embeds[place:end] - clip.to(embeds)).abs().max())


def _positions(prompt: Prompt, frames: int, embeds: torch.Tensor | None) -> tuple[Position, ...]:
    labels: list[tuple[str, str]] = []
    for token in prompt.tokens:
        labels += [("audio", f"frame {i}") for i in range(frames)] if token.slot else [("text", token.piece)]
    norms = [None] * len(labels) if embeds is None else embeds.float().norm(dim=-1).tolist()
    return tuple(Position(*label, norm) for label, norm in zip(labels, norms, strict=True))

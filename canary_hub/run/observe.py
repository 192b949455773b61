"""The injection details of one segment: from the tensors of a run to the plain data of a trace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..stages import Framed, Inspectable, LLMBackend, Step
from .result import Alternative, Frame, Near, PromptToken, SegmentTrace, TokenTrace, WordTrace
from .timing import onsets, token_frames, words_of

if TYPE_CHECKING:
    import torch

ALTERNATIVES = 5
NEAREST = 5
PICTURE = (32, 480)
"""The log-mel picture has at most so many rows and columns."""


@dataclass
class Observed:
    """What the model looked at and could have written at each step of one row, collected while it decodes.

    audio: the columns of the prompt's attention where the row's audio embeddings stand.
    """

    audio: slice
    probability: list[float] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    """In bits."""
    others: list[list[tuple[int, float]]] = field(default_factory=list)
    """The most probable tokens that were not written, with their probabilities."""
    attention: list[torch.Tensor] = field(default_factory=list)
    """(heads, frames) per token, in float16: minutes of audio hold many."""


def observe(step: Step, rows: Sequence[Observed]) -> None:
    """Add a step to the choices of all its rows: a softmax over the whole vocabulary, and the attention."""
    import torch

    p = torch.softmax(step.logits.float(), dim=-1)
    best = p.topk(min(ALTERNATIVES + 1, p.shape[-1]))
    entropy = (torch.special.entr(p).sum(dim=-1) / math.log(2)).tolist()
    ranked = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    for i, (row, id, (ids, values)) in enumerate(zip(rows, step.ids, ranked, strict=True)):
        if id is None:
            continue
        row.probability.append(math.exp(step.logprobs[i]))
        row.entropy.append(entropy[i])
        row.others.append([pair for pair in zip(ids, values, strict=True) if pair[0] != id][:ALTERNATIVES])
        if step.attention is not None:
            row.attention.append(step.attention[i, :, row.audio].to("cpu", torch.float16))


def segment_trace(
    llm: LLMBackend,
    span: tuple[float, float],
    prompt: Sequence[int],
    features: torch.Tensor,
    audio: torch.Tensor,
    ids: Sequence[int],
    choices: Observed,
    frame_seconds: float | None = None,
) -> SegmentTrace:
    """Everything about one decoded segment.

    Args:
        span: start and end in seconds of the file.
        prompt: the prompt's ids, with its placeholders.
        features: (F, T) log-mel of the segment, without padding.
        audio: (M, H) the embeddings that took the placeholder's place.
        ids: the tokens it wrote; a repetition's, which was removed, are no longer among them.
        frame_seconds: what one embedding covers; by default they share the segment's time evenly.
    """
    import torch

    seconds = frame_seconds or (span[1] - span[0]) / max(1, len(audio))
    picture = None
    frames: list[int] | None = None
    if choices.attention and ids and len(audio):
        heads = torch.stack(choices.attention[: len(ids)], dim=1)
        frames, picture = token_frames(heads.float().numpy())
    pieces = _pieces(llm, {*prompt, *ids, *(other for row in choices.others for other, _ in row)})
    tokens = tuple(
        TokenTrace(
            id,
            pieces[id],
            round(choices.probability[i], 6),
            round(choices.entropy[i], 4),
            tuple(Alternative(other, pieces[other], round(p, 6)) for other, p in choices.others[i]),
            None if frames is None else frames[i],
        )
        for i, id in enumerate(ids)
    )
    return SegmentTrace(
        start=span[0],
        end=span[1],
        prompt=tuple(PromptToken(id, pieces[id], id == llm.placeholder_id) for id in prompt),
        frames=_frames(llm, audio),
        frame_seconds=seconds,
        tokens=tokens,
        words=_words(llm, tokens, span, seconds, features),
        attention=None if picture is None else tuple(tuple(_scaled(row)) for row in picture.tolist()),
        log_mel=_log_mel(features),
    )


def _pieces(llm: LLMBackend, ids: Iterable[int]) -> dict[int, str]:
    known = list(ids)
    texts = llm.pieces(known) if isinstance(llm, Inspectable) else [llm.decode([id]) for id in known]
    return dict(zip(known, texts, strict=True))


def _frames(llm: LLMBackend, audio: torch.Tensor) -> tuple[Frame, ...]:
    norms = audio.float().norm(dim=-1).tolist()
    if not isinstance(llm, Inspectable) or not len(audio):
        return tuple(Frame(round(norm, 4)) for norm in norms)
    ids, cosines = (found.tolist() for found in llm.nearest(audio, NEAREST))
    names = _pieces(llm, {i for row in ids for i in row})
    return tuple(
        Frame(round(norm, 4), tuple(Near(i, names[i], round(c, 4)) for i, c in zip(row, cosine, strict=True)))
        for norm, row, cosine in zip(norms, ids, cosines, strict=True)
    )


def _words(
    llm: LLMBackend,
    tokens: Sequence[TokenTrace],
    span: tuple[float, float],
    seconds: float,
    features: torch.Tensor,
) -> tuple[WordTrace, ...]:
    """Words from the rise of the sound before their first token's frame, to the next word."""
    # Some models say more than the transcript, such as its language, and their text leaves that out.
    before = llm.left_out([token.id for token in tokens]) if isinstance(llm, Framed) else 0
    spoken = [token for token in tokens[before:] if token.id not in llm.eos_ids]
    words = words_of([token.piece for token in spoken])
    if not words or spoken[0].frame is None:
        return ()
    # A model that hears the silence behind a clip may look there: such words are put at the clip's end.
    last = max(0.0, span[1] - span[0] - seconds / 2)
    peaks = [min(((spoken[first].frame or 0) + 0.5) * seconds, last) for _, first, _ in words]
    starts = onsets(peaks, features.mean(dim=0).float().cpu().numpy(), features.shape[1] / (span[1] - span[0]))
    ends = [*starts[1:], span[1] - span[0]]
    return tuple(
        WordTrace(text, before + first, before + stop, round(span[0] + start, 3), round(span[0] + end, 3))
        for (text, first, stop), start, end in zip(words, starts, ends, strict=True)
    )


def _scaled(row: list[float]) -> list[float]:
    top = max(row, default=0.0) or 1.0
    return [round(value / top, 3) for value in row]


def _log_mel(features: torch.Tensor) -> tuple[tuple[int, ...], ...]:
    """(F, T) -> a picture of 0..255, averaged down to at most `PICTURE`."""
    import torch

    if not features.numel():
        return ()
    size = (min(PICTURE[0], features.shape[0]), min(PICTURE[1], features.shape[1]))
    small = torch.nn.functional.adaptive_avg_pool2d(features.float()[None], size)[0]
    low, high = small.min(), small.max()
    scaled = (small - low) / (high - low).clamp(min=1e-6) * 255
    return tuple(tuple(row) for row in scaled.round().int().tolist())

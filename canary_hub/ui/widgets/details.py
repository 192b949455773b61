"""The injection details: how the audio entered the prompt, token by token, on one time axis.

What a `Trace` holds becomes plain data for the templates in templates/details. Elements that mean a stretch of audio
carry data-seek (seconds, a click plays from there) and data-from/data-to (frames, lit up together).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from ...run.figures import clock
from ...run.result import SegmentTrace, Trace
from .templates import render

UNSURE = 0.5
"""A token below this probability is marked."""


class Place(NamedTuple):
    """A stretch of audio: frames `first` to `stop` of a segment; `seconds` is where it begins in the file."""

    seconds: float
    first: int
    stop: int


def details(trace: Trace | None) -> str:
    """One section per segment, and what ran."""
    return render("details/one.html", segments=_segments(trace), trace=trace) if trace else ""


def side_by_side(traces: Sequence[tuple[str, Trace]]) -> str:
    """The details of several runs on the same audio under each other; of segments that start and end alike on
    one time axis.

    Args:
        traces: each with the name of its run.
    """
    if not traces:
        return ""
    spans = [[(segment.start, segment.end) for segment in trace.segments] for _, trace in traces]
    if any(other != spans[0] for other in spans):
        apart = [(name, _segments(trace), trace) for name, trace in traces]
        return render("details/apart.html", traces=apart)
    names = [name for name, _ in traces]
    together = []
    for runs in zip(*(_segments(trace) for _, trace in traces), strict=True):
        alike = all(run["trace"].log_mel == runs[0]["trace"].log_mel for run in runs)
        together.append((list(zip(names, runs, strict=True)), alike))
    return render("details/side_by_side.html", segments=together, traces=traces)


def _segments(trace: Trace) -> list[dict[str, Any]]:
    many = len(trace.segments) > 1
    return [
        {
            "trace": segment,
            "title": f"Segment {i}: {clock(segment.start)} to {clock(segment.end)}"
            if many
            else "How the audio entered",
            "frame_ms": f"{segment.frame_seconds * 1000:.0f}",
            "frames": _frames(segment),
            "tokens": _tokens(segment),
            "ticks": [segment.start + (segment.end - segment.start) * fifth / 5 for fifth in range(6)],
            "log_mel": _image(segment.log_mel[::-1], 64, "Log-mel features"),
            "timed": segment.attention is not None,
            "attention": _attention(segment),
            "words": list(_words(segment)),
            "nearest": _nearest(segment),
        }
        for i, segment in enumerate(trace.segments, 1)
    ]


def _title(segment: SegmentTrace, number: int) -> str:
    return f"Segment {number}: {clock(segment.start)} to {clock(segment.end)}"


def _place(segment: SegmentTrace, first: int, stop: int) -> Place:
    return Place(segment.start + first * segment.frame_seconds, first, stop)


def _frames(segment: SegmentTrace) -> list[dict[str, Any]]:
    """The larger a frame's norm, the darker it is drawn."""
    norms = [frame.norm for frame in segment.frames]
    low, spread = min(norms, default=0.0), (max(norms, default=0.0) - min(norms, default=0.0)) or 1.0
    return [
        {
            "norm": f"{norm:.2f}",
            "opacity": f"{0.12 + 0.88 * (norm - low) / spread:.2f}",
            "place": _place(segment, i, i + 1),
        }
        for i, norm in enumerate(norms)
    ]


def _tokens(segment: SegmentTrace) -> list[dict[str, Any]]:
    """The written tokens; one that begins at a frame reaches to the frame of the next one."""
    firsts = sorted({token.frame for token in segment.tokens if token.frame is not None})
    stops = [*firsts[1:], len(segment.frames)]
    places = {first: _place(segment, first, stop) for first, stop in zip(firsts, stops, strict=False)}
    return [
        {
            **vars(token),
            "percent": 100 * token.probability,
            "unsure": token.probability < UNSURE,
            "place": None if token.frame is None else places[token.frame],
        }
        for token in segment.tokens
    ]


def _attention(segment: SegmentTrace) -> dict[str, Any] | None:
    if segment.attention is None:
        return None
    rows = [[round(255 * value) for value in row] for row in segment.attention]
    height = min(220, max(24, 9 * len(rows)))
    return _image(rows, height, "Attention of each written token, top to bottom, to the frames")


def _words(segment: SegmentTrace) -> Iterator[dict[str, Any]]:
    """The words at their times, in three rows so that neighbours do not cover each other."""
    length = (segment.end - segment.start) or 1.0
    row_ends = [-1.0, -1.0, -1.0]
    for word in segment.words:
        left = 100 * (word.start - segment.start) / length
        row = min(range(3), key=lambda r: (row_ends[r] > left, row_ends[r]))
        row_ends[row] = left + 1.4 * len(word.text) + 1.5
        first = int((word.start - segment.start) / (segment.frame_seconds or 1) + 0.5)
        stop = max(first + 1, int((word.end - segment.start) / (segment.frame_seconds or 1) + 0.5))
        yield {
            "text": word.text,
            "start": word.start,
            "end": word.end,
            "row": row,
            "left": f"{left:.2f}",
            "width": len(word.text) + 2,
            "place": _place(segment, first, stop),
        }


def _image(rows: Sequence[Sequence[int]], height: int, label: str) -> dict[str, Any] | None:
    """Rows of 0..255 as a picture in one colour, which its opacity makes fit light and dark."""
    from PIL import Image

    if not rows:
        return None
    picture = Image.new("LA", (len(rows[0]), len(rows)))
    picture.putdata([(0, value) for row in rows for value in row])
    file = io.BytesIO()
    picture.save(file, "PNG")
    return {"png": base64.b64encode(file.getvalue()).decode(), "height": height, "label": label}


def _nearest(segment: SegmentTrace) -> list[tuple[Place, Any]]:
    """Runs of frames with the same nearest token."""
    if not any(frame.nearest for frame in segment.frames):
        return []
    runs = []
    numbered = enumerate(segment.frames)
    for _, group in groupby(numbered, key=lambda item: item[1].nearest[0].id if item[1].nearest else None):
        frames = list(group)
        runs.append((_place(segment, frames[0][0], frames[-1][0] + 1), frames[0][1].nearest))
    return runs

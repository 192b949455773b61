"""Results as text: txt, json, srt, vtt and csv.

Every function here is pure. It takes results (see `ResultLike`) and gives the content of a file, ending
in a newline unless it is empty. Characters that UTF-8 cannot hold, as undecodable file names have them,
are written as backslash escapes.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from ..errors import HubError, OptionError, UnknownNameError


class SegmentLike(Protocol):
    """A stretch of audio with its text; `start` and `end` in seconds, `note` marks a doubtful text."""

    @property
    def start(self) -> float:
        """Start in seconds."""

    @property
    def end(self) -> float:
        """End in seconds."""

    @property
    def text(self) -> str:
        """What was said."""

    @property
    def note(self) -> str | None:
        """Why the text is not simply what the model wrote to its end, else None."""


class ResultLike(Protocol):
    """What a run gave for one file; `duration` in seconds, `seconds` of work per stage."""

    @property
    def file(self) -> str:
        """Name of the audio file."""

    @property
    def duration(self) -> float:
        """Length of the audio in seconds."""

    @property
    def text(self) -> str:
        """The whole transcript."""

    @property
    def segments(self) -> Sequence[SegmentLike]:
        """The transcript in pieces, in order of time."""

    @property
    def stack(self) -> str:
        """Name of the stack that ran."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds of work per stage."""


def to_txt(results: Sequence[ResultLike]) -> str:
    """The text of one result; of several, a line "file: text" each. Notes are not shown."""
    if len(results) == 1:
        return _encodable(results[0].text.strip() + "\n")
    return _encodable("".join(f"{result.file}: {_one_line(result.text)}".rstrip() + "\n" for result in results))


def to_json(results: Sequence[ResultLike]) -> str:
    """A list with, per file: file, duration, text, segments [start, end, text, note if any], stack, seconds.

    Times are in seconds, rounded to a millisecond (work per stage to a tenth of one).
    """
    rows = [
        {
            "file": result.file,
            "duration": round(result.duration, 3),
            "text": result.text,
            "segments": [
                {"start": round(segment.start, 3), "end": round(segment.end, 3), "text": segment.text}
                | ({"note": segment.note} if segment.note else {})
                for segment in result.segments
            ],
            "stack": result.stack,
            "seconds": {stage: round(spent, 4) for stage, spent in result.seconds.items()},
        }
        for result in results
    ]
    # A lone surrogate becomes \udcXX, which JSON reads back as it was.
    return _encodable(json.dumps(rows, ensure_ascii=False, indent=2) + "\n")


def to_csv(results: Sequence[ResultLike]) -> str:
    r"""Columns file,start,end,text: a row per segment, or one empty row for a file without segments.

    Times are in seconds. Lines end in "\n"; write it with newline="". Text is data and is not altered:
    a spreadsheet may take a cell that begins with =, +, - or @ for a formula, so import it as text.
    """
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["file", "start", "end", "text"])
    for result in results:
        for segment in result.segments:
            rows.writerow([result.file, f"{segment.start:.3f}", f"{segment.end:.3f}", segment.text])
        if not result.segments:
            rows.writerow([result.file, "0.000", f"{result.duration:.3f}", result.text])
    return _encodable(out.getvalue())


def to_srt(results: Sequence[ResultLike], *, max_line_chars: int = 42, max_lines: int = 2) -> str:
    """SubRip subtitles of exactly one result; see `cues` for how long segments are split.

    Segments without text are left out. SRT has no escapes: "-->" inside a text becomes "-- >". Notes
    are not shown. Raises `HubError` for no or several results.
    """
    blocks: list[str] = []
    for start, end, lines in cues(_only(results, "srt").segments, max_line_chars, max_lines):
        text = "\n".join(lines).replace("-->", "-- >")
        blocks.append(f"{len(blocks) + 1}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n")
    return _encodable("\n".join(blocks))


def to_vtt(results: Sequence[ResultLike], *, max_line_chars: int = 42, max_lines: int = 2) -> str:
    """WebVTT subtitles of exactly one result; see `cues` for how long segments are split.

    Segments without text are left out; &, < and > are escaped, which also breaks up "-->". A segment's
    note stands as a NOTE comment before its cues. Raises `HubError` for no or several results.
    """
    blocks = ["WEBVTT\n"]
    for segment in _only(results, "vtt").segments:
        if segment.note:
            blocks.append(f"NOTE {_vtt_escape(_one_line(segment.note))}\n")
        for start, end, lines in cues([segment], max_line_chars, max_lines):
            text = _vtt_escape("\n".join(lines))
            blocks.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n")
    return _encodable("\n".join(blocks))


def cues(
    segments: Sequence[SegmentLike], max_line_chars: int = 42, max_lines: int = 2
) -> Iterator[tuple[int, int, list[str]]]:
    """Subtitle cues (start ms, end ms, lines) of the segments that have text.

    Lines break between words, as evenly as the fewest lines allow; a word longer than a line is broken.
    A segment with more than `max_lines` lines becomes several cues that share its time in proportion to
    their characters, since segments carry no word times. Raises `OptionError` for sizes below 1.
    """
    if max_line_chars < 1 or max_lines < 1:
        raise OptionError(
            f"Subtitles of {max_lines} lines of {max_line_chars} characters hold no text.",
            "Give at least 1 each.",
        )
    for segment in segments:
        lines = _wrap(_one_line(segment.text), max_line_chars)
        groups = [lines[at : at + max_lines] for at in range(0, len(lines), max_lines)]
        sizes = [sum(map(len, group)) for group in groups]
        first, last = _milliseconds(segment.start), _milliseconds(segment.end)
        last = max(last, first + len(groups))  # a cue of no length is not valid
        start = first
        for i, group in enumerate(groups):
            share = sum(sizes[: i + 1]) / sum(sizes)
            room = len(groups) - 1 - i  # a millisecond each for the cues that follow
            end = min(max(first + round((last - first) * share), start + 1), last - room)
            yield start, end, group
            start = end


FORMATS: Mapping[str, Callable[[Sequence[ResultLike]], str]] = MappingProxyType(
    {"txt": to_txt, "json": to_json, "srt": to_srt, "vtt": to_vtt, "csv": to_csv}
)
"""Format name (also its file extension) -> function."""

PER_FILE = frozenset({"srt", "vtt"})
"""Formats that hold exactly one result."""


def render(results: Sequence[ResultLike], format: str) -> str:
    """`results` in the format of that name; raises `UnknownNameError` for a name that is not in `FORMATS`."""
    if format not in FORMATS:
        near = difflib.get_close_matches(format.lower(), FORMATS, n=1)
        guess = f"Did you mean {near[0]}? " if near else ""
        raise UnknownNameError(f"There is no format {format!r}.", f"{guess}Formats: {', '.join(FORMATS)}.")
    return FORMATS[format](results)


def _only(results: Sequence[ResultLike], format: str) -> ResultLike:
    if len(results) != 1:
        raise HubError(f"{format} holds one result, not {len(results)}.", "Write one file per result.")
    return results[0]


def _wrap(text: str, width: int) -> list[str]:
    """`text` in the fewest lines of at most `width` characters, then as evenly as those lines allow."""
    lines = textwrap.wrap(text, width, break_on_hyphens=False)
    narrowest = min(width, max(map(len, text.split()), default=1))
    for narrower in range(max(narrowest, -(-len(text) // max(1, len(lines)))), width):
        even = textwrap.wrap(text, narrower, break_on_hyphens=False)
        if len(even) == len(lines):
            return even
    return lines


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _milliseconds(seconds: float) -> int:
    return max(0, int(seconds * 1000 + 0.5))


def _clock(milliseconds: int, point: str) -> str:
    """HH:MM:SS,mmm with the given decimal point; hours beyond 99 take the digits they need."""
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{rest:03}"


def _vtt_escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

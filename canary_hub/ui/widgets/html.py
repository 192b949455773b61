"""Small pieces of HTML that every tab shows: status lines and notes."""

from __future__ import annotations

from ...run.result import SegmentResult
from .runs import Moment
from .templates import render

DOUBTFUL = 0.5
"""A segment whose tokens have a lower mean probability than this is marked."""


def status(moment: Moment) -> str:
    """The status line: what is happening, or how it went."""
    result = moment.result
    if moment.state != "done" or result is None:
        warnings = moment.warnings if moment.state != "failed" else ()
        return render(
            "status.html",
            state=moment.state,
            message=moment.message,
            hint=moment.hint,
            share=moment.share,
            warnings=warnings,
        )
    return render(
        "done.html",
        result=result,
        speed=f"{result.speed:.0f}" if result.speed >= 10 else f"{result.speed:.1f}",
        tokens=sum(segment.tokens for segment in result.segments),
        frames=sum(segment.audio_frames for segment in result.segments),
        doubtful=sum(bool(remark(segment)) for segment in result.segments),
        warnings=moment.warnings,
    )


def idle(text: str) -> str:
    """The status line before anything has happened."""
    return render("idle.html", text=text)


def note(text: str, quiet: str = "", warning: str = "", announced: bool = False) -> str:
    """A line of small print.

    Args:
        quiet, warning: what follows the text, set apart by its colour.
        announced: whether a screen reader says it as soon as it changes.
    """
    return render("note.html", text=text, quiet=quiet, warning=warning, announced=announced)


def remark(segment: SegmentResult) -> str:
    """Why a segment's text is to be doubted, in plain words; "" when it is not."""
    if segment.note:
        return segment.note[0].upper() + segment.note[1:]
    if segment.confidence is not None and segment.confidence < DOUBTFUL and segment.text:
        return f"Low confidence: {segment.confidence:.0%} a token on average"
    return ""

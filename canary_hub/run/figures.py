"""Figures as people read them: durations, places in the audio, bytes, numbers of things."""

from __future__ import annotations


def seconds(value: float) -> str:
    """ "0.34 s", "12.4 s" or "3 min 20 s"."""
    if value >= 60:
        return f"{int(value // 60)} min {int(value % 60)} s"
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"


def milliseconds(value: float) -> str:
    """Of seconds: "12 ms", or seconds from one on."""
    return seconds(value) if value >= 1 else f"{value * 1000:.0f} ms"


def clock(value: float) -> str:
    """Of seconds: "0:07.9", "1:02:03.4"."""
    tenths = round(value * 10)
    whole, tenth = divmod(tenths, 10)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    head = f"{hours}:{minute:02d}" if hours else f"{minute}"
    return f"{head}:{second:02d}.{tenth}"


def size(nbytes: float) -> str:
    """Of bytes: "14 MB", "4.8 GB"."""
    return f"{nbytes / 2**30:.1f} GB" if nbytes >= 2**30 else f"{max(1, round(nbytes / 2**20))} MB"


def count(number: int, noun: str) -> str:
    """ "1 token", "2 tokens"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}".replace(",", "\u202f")

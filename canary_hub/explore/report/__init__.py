"""An exploration as titled sections: the terminal, the plots and the page all draw these. No torch, no drawing.

>>> for section in sections(explore("structure", hub, "nano")):
...     print(section.title, section.sentence)
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Literal

from .. import EXPLORATIONS
from ..exploration import Exploration


@dataclass(frozen=True)
class Table:
    """Rows of cells that are text already; numbers stand in the columns named in `right`."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[str, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class Series:
    """A line or a set of bars: y over x. x are numbers for a line, labels for bars."""

    name: str
    x: tuple[float, ...] | tuple[str, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Chart:
    """What to plot. name: for a file ("parameters"). Bars of several series are stacked."""

    name: str
    title: str
    kind: Literal["line", "bar"]
    x: str
    y: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Section:
    """One thing to see. sentence: what one sees, in plain words."""

    title: str
    sentence: str
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()


def sections(result: Exploration) -> list[Section]:
    """The result of any exploration as sections; the last one says what could not be shown."""
    module = EXPLORATIONS[result.exploration].module
    parts: list[Section] = importlib.import_module(f".{module}", __name__).sections(result)
    if result.limits:
        table = Table(("",), tuple((limit,) for limit in result.limits))
        parts = [*parts, Section("What is not shown", "What is missing here, and why.", (table,))]
    return parts


def count(number: float) -> str:
    """25690112 -> "25.7M"; below ten thousand every digit."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if letter == 'k' else size):.{2 if letter == 'B' else 1}f}{letter}"
    return f"{number:g}"


def size(nbytes: float) -> str:
    """Bytes in binary units: "112.0 KiB"."""
    for unit in ("bytes", "KiB", "MiB"):
        if nbytes < 1024:
            return f"{nbytes:g} bytes" if unit == "bytes" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.2f} GiB"


def shape(dims: tuple[int, ...]) -> str:
    """(2048, 6144) -> "2048 x 6144"."""
    return " x ".join(map(str, dims)) or "scalar"


def percent(part: float, whole: float) -> str:
    """1.47 %, of 0 too."""
    return f"{100 * part / whole:.2f} %" if whole else "-"


def shown(piece: str) -> str:
    """A token as it can be seen in a table: line ends and spaces at the ends are parts visible."""
    visible = piece.replace("\n", "\\n")
    stripped = visible.strip(" ")
    if not stripped:
        return "\u2423" * len(visible)
    before, after = len(visible) - len(visible.lstrip(" ")), len(visible) - len(visible.rstrip(" "))
    return "\u2423" * before + stripped + "\u2423" * after

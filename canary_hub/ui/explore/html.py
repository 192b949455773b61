"""An exploration as HTML: its sections with their charts and tables, as data for templates/explore."""

from __future__ import annotations

import re
from typing import Any

from ...explore.exploration import Exploration
from ...explore.report import Section, Table, sections
from ..widgets.templates import render
from .charts import drawn
from .glossary import Words

LONG = 24
"""A table of more rows is folded."""
BROAD = 4
"""A table of more columns has the whole width."""
LINE = 20
"""A cell of more letters may be broken into lines, and keeps some width for them."""
CODE = {"module", "piece", "token", "name in the file", "shape", "A", "B"}
"""Columns of names and shapes, in letters of equal width; so are those of "tensor of the encoder"."""


def shown(found: Exploration, title: str) -> str:
    """All sections below one heading, and at the end what could not be shown."""
    everything = sections(found)
    if found.limits:
        everything = everything[:-1]  # the same limits, as a section for the terminal
    return render(
        "explore/exploration.html",
        title=title,
        stack=found.stack,
        sections=[_section(found.exploration, i, section) for i, section in enumerate(everything, 1)],
        limits=[re.split(r"`([^`]*)`", limit) for limit in found.limits],  # every second part is `code`
    )


def _section(name: str, number: int, section: Section) -> dict[str, Any]:
    """A section with its broad tables last; a single chart without a table beside it has the whole width."""
    words = Words(name, f"tip-{name}-{number}")
    tables = sorted(section.tables, key=_broad)
    return {
        "title": section.title,
        "sentence": words(section.sentence),
        "charts": [drawn(chart) for chart in section.charts],
        "alone": len(section.charts) == 1 and all(map(_broad, tables)),
        "tables": [_table(table, words) for table in tables],
    }


def _broad(table: Table) -> bool:
    return len(table.columns) > BROAD or len(table.rows) > LONG


def _table(table: Table, words: Words) -> dict[str, Any]:
    return {
        "label": table.title or ", ".join(filter(None, table.columns)),
        "title": words(table.title),
        "head": [(words(name), name in table.right) for name in table.columns] if any(table.columns) else [],
        "rows": [[_cell(table, i, cell, words) for i, cell in enumerate(row)] for row in table.rows],
        "broad": _broad(table),
        "folded": len(table.rows) > LONG,
        "named": "" if table.title.startswith("...") else table.title,
    }


def _cell(table: Table, i: int, cell: str, words: Words) -> dict[str, Any]:
    column, text = table.columns[i], cell.lstrip(" ")
    right = column in table.right
    look = {
        "kind": "text",
        "text": text,
        "indent": f"{0.5 * (len(cell) - len(text)):g}",
        "look": "ch-number" if right else "ch-long" if len(text) > LINE else "",
    }
    if column in CODE or column.startswith("tensor of the"):
        look["kind"] = "code"
    elif text and not text.strip("\u2588\u00b7"):  # in blocks; the columns beside it say the same
        look["kind"] = "drawn"
    elif i == 0 and not right:
        return {**look, "kind": "name", "pieces": words(text)}
    return look

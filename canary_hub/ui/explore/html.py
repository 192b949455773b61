"""An exploration as HTML. Everything that comes from a checkpoint, a file or a model is escaped here."""

from __future__ import annotations

import re
from html import escape

from ...explore.exploration import Exploration
from ...explore.report import Section, Table, sections
from .charts import draw
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
    made = sections(found)
    limits = ""
    if found.limits:
        made = made[:-1]  # the same limits, as a section for the terminal
        lines = "".join(f"<li>{_marked(limit)}</li>" for limit in found.limits)
        limits = f'<aside class="ch-missing"><h3>What is not shown here, and why</h3><ul>{lines}</ul></aside>'
    body = "".join(_section(found.exploration, i, section) for i, section in enumerate(made, 1))
    heading = f'<h2>{escape(title)} <span class="ch-quiet">of {escape(found.stack)}</span></h2>'
    return f'<div class="ch-explored">{heading}{body}{limits}</div>'


def _section(name: str, number: int, section: Section) -> str:
    words = Words(name, f"tip-{name}-{number}")
    sentence = words(section.sentence)
    small = [table for table in section.tables if not _broad(table)]
    broad = [table for table in section.tables if _broad(table)]
    alone = "" if small or len(section.charts) > 1 else " ch-across"
    charts = [f'<div class="ch-show{alone}">{draw(chart)}</div>' for chart in section.charts]
    beside = [f'<div class="ch-show">{_table(table, words)}</div>' for table in small]
    across = [f'<div class="ch-show ch-across">{_table(table, words)}</div>' for table in broad]
    shows = "".join((*charts, *beside, *across))
    return (
        f'<section><h3>{number}. {escape(section.title)}</h3><p class="ch-sentence">{sentence}</p>'
        f'<div class="ch-shows">{shows}</div></section>'
    )


def _broad(table: Table) -> bool:
    return len(table.columns) > BROAD or len(table.rows) > LONG


def _table(table: Table, words: Words) -> str:
    title = f"<caption>{words(table.title)}</caption>" if table.title else ""
    head = ""
    if any(table.columns):
        cells = (
            f'<th scope="col"{_aligned(table, i)}>{words(name)}</th>' if name else "<td></td>"
            for i, name in enumerate(table.columns)
        )
        head = f"<thead><tr>{''.join(cells)}</tr></thead>"
    rows = "".join(
        "<tr>" + "".join(_cell(table, i, cell, words) for i, cell in enumerate(row)) + "</tr>" for row in table.rows
    )
    label = escape(table.title or ", ".join(filter(None, table.columns)), quote=True)
    html = (
        f'<div class="ch-wide" role="region" aria-label="{label}" tabindex="0">'
        f'<table class="ch-table">{title}{head}<tbody>{rows}</tbody></table></div>'
    )
    if len(table.rows) <= LONG:
        return html
    named = f": {escape(table.title)}" if table.title and not table.title.startswith("...") else ""
    summary = f"Show all {len(table.rows)} rows{named}"
    return f'<details class="ch-fold"><summary>{summary}</summary>{html}</details>'


def _aligned(table: Table, i: int) -> str:
    return ' class="ch-number"' if table.columns[i] in table.right else ""


def _cell(table: Table, i: int, cell: str, words: Words) -> str:
    column = table.columns[i]
    text = cell.lstrip(" ")
    if column in CODE or column.startswith("tensor of the"):
        indent = len(cell) - len(text)
        pieces = escape(text).replace(".", ".<wbr>")
        return f'<td><code style="padding-left:{0.5 * indent:g}rem">{pieces}</code></td>'
    if text and not text.strip("\u2588\u00b7"):  # drawn in blocks; the columns beside it say the same
        return f'<td aria-hidden="true"><code>{escape(text)}</code></td>'
    look = _aligned(table, i) or (' class="ch-long"' if len(text) > LINE else "")
    if i == 0 and not _aligned(table, i):
        left = f' style="padding-left:{0.5 * (len(cell) - len(text)):g}rem !important"' if cell != text else ""
        return f'<th scope="row"{look}{left}>{words(text)}</th>'
    return f"<td{look}>{escape(text)}</td>"


def _marked(limit: str) -> str:
    """A sentence in which `commands` stand out."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(limit))

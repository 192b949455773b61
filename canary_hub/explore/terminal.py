"""Sections in the terminal, with rich."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import report

if TYPE_CHECKING:
    from rich.console import Console


def show(sections: Iterable[report.Section], console: Console) -> None:
    """Title, sentence and tables of every section; charts are for `plots`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    for section in sections:
        console.print()
        console.print(Text(section.title, style="bold"))
        console.print(Text(section.sentence))
        for given in section.tables:
            headed = any(given.columns)
            table = Table(
                title=given.title or None, title_justify="left", box=box.SIMPLE_HEAD if headed else None,
                show_header=headed, show_edge=False, pad_edge=False,
            )  # fmt: skip
            for column in given.columns:
                table.add_column(column, justify="right" if column in given.right else "left", overflow="fold")
            for row in given.rows:
                table.add_row(*map(Text, row))  # Text: a token such as "[/b]" is no markup
            console.print(table)

"""HTML from the templates in ui/templates. Every value in them is escaped: no text of a visitor, a file or a model
becomes markup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from ...run import figures

FOLDER = Path(__file__).parents[1] / "templates"


class LineBreaks(Extension):
    """What a line break in a template means, as in JSX: beside a tag nothing, within text a space."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """Change the template's own text, never a value."""
        for token in stream:
            if token.type == "data":
                text = re.sub(r"(\A|(?<=>))\s*\n\s*|\s*\n\s*(?=<|\Z)", "", token.value)
                token = Token(token.lineno, "data", re.sub(r"\s*\n\s*", " ", text))
            yield token


def visible(piece: str) -> str:
    """A token's text with its white space made visible."""
    return piece.replace("\n", "\u23ce").replace(" ", "\u2423") or "\u2205"


ENVIRONMENT = Environment(
    loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, extensions=[LineBreaks]
)
for form in (figures.seconds, figures.milliseconds, figures.clock, figures.size, figures.count, visible):
    ENVIRONMENT.filters[form.__name__] = form


def render(name: str, **data: object) -> str:
    """The template of that name with `data` filled in."""
    return ENVIRONMENT.get_template(name).render(data)

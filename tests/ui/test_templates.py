"""The page's templates: whatever a value spells, it stays text; line breaks in a template are for its reader."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import canary_hub.ui
from canary_hub.ui.widgets.templates import ENVIRONMENT, FOLDER, render, visible

UI = Path(canary_hub.ui.__file__).parent
HOSTILE = "<script>alert(1)</script>\"' onclick='alert(2)"


class Hostile:
    """Text that is no text of ours, wherever a template looks: as itself, any of its fields, any of its items.

    yes: what it answers when it is compared or tested.
    """

    def __init__(self, yes: bool = True, **fields: Any) -> None:
        self.yes = yes
        self.__dict__ |= fields

    def __str__(self) -> str:
        return HOSTILE

    def __getattr__(self, name: str) -> Hostile:
        if name.startswith("__"):  # __html__ would say that it is markup
            raise AttributeError(name)
        return self

    def __iter__(self) -> Iterator[Hostile]:
        return iter([self, self])

    def __bool__(self) -> bool:
        return self.yes

    def __eq__(self, other: object) -> bool:
        return self.yes

    def __gt__(self, other: object) -> bool:
        return self.yes

    def __hash__(self) -> int:
        return 0

    def __len__(self) -> int:
        return 2

    def __float__(self) -> float:
        return 1.0

    def _itself(self, *others: object) -> Hostile:
        return self

    __call__ = __getitem__ = __sub__ = __rmul__ = _itself


Data = Callable[[Hostile], dict[str, Any]]


def every(*names: str) -> Data:
    return lambda x: dict.fromkeys(names, x)


def kinds(x: Hostile, *names: str) -> list[Hostile]:
    return [Hostile(x.yes, kind=name) for name in names] + [x]


def segment(x: Hostile) -> Hostile:
    return Hostile(x.yes, nearest=[(x, x)])


CHART = {"title", "x", "y", "description", "ramp"}
CHARTS: list[Data] = [
    lambda x: {**dict.fromkeys(CHART, x), "legend": [(x, x)], "bars": [Hostile(x.yes, pieces=[(x, x)])]},
    lambda x: {**dict.fromkeys(CHART, x), "legend": [(x, x)], "heights": [(x, x)], "columns": [(x, x)], "lines": [x]},
]


def table(x: Hostile) -> Hostile:
    return Hostile(x.yes, head=[(x, x)], rows=[kinds(x, "code", "drawn", "name")])


TEMPLATES: dict[str, Data] = {
    "status.html": every("state", "message", "hint", "share", "warnings"),
    "idle.html": every("text"),
    "waits.html": every(),
    "note.html": every("text", "quiet", "warning", "announced"),
    "fit.html": every("problems", "warnings"),
    "done.html": every("result", "speed", "tokens", "frames", "doubtful", "warnings"),
    "registry.html": lambda x: {
        "stacks": [Hostile(x.yes, stages=[(x, x)])],
        "stages": [(x, x, [x, Hostile(x.yes, problem="")]), (x, x, [])],
        "segmenters": x,
        "plugins": [(x, x)],
        "how_to": x,
    },
    "transcribe/segments.html": lambda x: {"segments": [(x, x)], "heard": x},
    "transcribe/stages.html": every("stages", "nbytes"),
    "transcribe/answer.html": every("thought", "label", "answer", "note"),
    "details/one.html": lambda x: {"segments": [segment(x)], "trace": x},
    "details/side_by_side.html": lambda x: {"segments": [([(x, segment(x))], x)], "traces": [(x, x)]},
    "details/apart.html": lambda x: {"traces": [(x, [segment(x)], x)]},
    "compare/done.html": every("comparison", "opened", "order"),
    "compare/running.html": every("lanes"),
    "compare/differences.html": lambda x: {"pieces": kinds(x, "equal", "insert", "delete")},
    "compare/transcripts.html": lambda x: {
        "reference": x,
        "lanes": [(x, None, x, x), (Hostile(x.yes, state="done"), [x], x, x)],
        "compared_to": x,
    },
    "compare/measures.html": lambda x: {"lanes": x, "groups": [(x, [x])], "width": x},
    "compare/known_options.html": lambda x: {"options": [(x, x, x)]},
    "compare/refused.html": every("problem"),
    "compare/card_heading.html": every("number"),
    "compare/presets.html": every(),
    "explore/exploration.html": lambda x: {
        "title": x,
        "stack": x,
        "sections": [Hostile(x.yes, charts=[draw(x) for draw in CHARTS], tables=[table(x)])],
        "limits": [[x, x, x]],
    },
    "explore/chart.html": lambda x: {"chart": CHARTS[0](x)},
    "explore/table.html": lambda x: {"table": table(x)},
    "share/created.html": every("query", "until", "key"),
    "share/heading.html": every("what", "file", "created", "expires"),
    "share/text.html": every("text"),
    "page/heading.html": every(),
    "page/embed.html": every(),
    "page/privacy.html": every("hours"),
    "page/preview.html": every(),
}
"""Template -> what it needs, made of hostile text."""
FILES = {file.relative_to(FOLDER).as_posix(): file for file in FOLDER.rglob("*.*")}


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        assert not [name for name, _ in attrs if name.startswith("on") or "alert" in name]
        if tag not in ("br", "wbr", "img", "meta"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_template_is_in_the_list() -> None:
    assert TEMPLATES.keys() == {name for name in FILES if not name.endswith("macros.html")}


@pytest.mark.parametrize("yes", [True, False])
@pytest.mark.parametrize("name", TEMPLATES)
def test_no_value_becomes_markup(name: str, yes: bool) -> None:
    spelled = ENVIRONMENT.overlay()
    own = {name: filter for name, filter in ENVIRONMENT.filters.items() if filter.__module__.startswith("canary_hub")}
    assert {"seconds", "milliseconds", "clock", "size", "count", "visible"} == own.keys()
    spelled.filters = {**ENVIRONMENT.filters, **dict.fromkeys(own, lambda *values: HOSTILE)}
    data = TEMPLATES[name](Hostile(yes))
    html = spelled.get_template(name).render(data)
    Page(html)
    if yes and data:
        assert "&lt;script&gt;" in html


def test_nothing_is_escaped_by_hand_and_nothing_is_called_safe() -> None:
    for file in UI.rglob("*.py"):
        code = file.read_text("utf-8")
        assert not re.search(r"\bescape\b|\bMarkup\b|markupsafe", code), file
        assert not re.search(
            r"<(a|article|button|code|div|h[1-4]|li|p|pre|section|span|strong|table|td|th|ul)\b", code
        ), file
    for name, file in FILES.items():
        assert not re.search(r"\bsafe\b|autoescape|xmlattr|tojson|forceescape", file.read_text("utf-8")), name
        assert file.suffix == ".html", name


def test_a_line_break_is_nothing_beside_a_tag_and_a_space_within_text() -> None:
    lines = ["<p>", "  one", "  two {{ a }}", "  {% if a %} three{% endif %}", "</p>", "", "<b", "  id='x'>y</b>", ""]
    template = ENVIRONMENT.from_string("\n".join(lines))
    assert template.render(a="1 \n 2") == "<p>one two 1 \n 2 three</p><b id='x'>y</b>"


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(Exception, match="'text' is undefined"):
        render("idle.html")


def test_white_space_of_tokens_is_visible() -> None:
    assert (visible(" a\n"), visible("")) == ("\u2423a\u23ce", "\u2205")

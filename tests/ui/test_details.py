"""The injection details as HTML: truthful, escaped, and only linked where there is a time."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from canary_hub.run.result import (
    Alternative,
    Frame,
    Near,
    PromptToken,
    SegmentTrace,
    StageRecord,
    TokenTrace,
    Trace,
    WordTrace,
)
from canary_hub.ui.widgets.details import details

EVIL = "<script>alert(1)</script>\"'&"


def trace(attention: bool = True) -> Trace:
    tokens = (
        TokenTrace(1, EVIL, 0.97, 0.2, (Alternative(2, EVIL, 0.01),), 2 if attention else None),
        TokenTrace(3, " two", 0.3, 2.5, (), 6 if attention else None),
    )
    segment = SegmentTrace(
        start=10.0,
        end=10.8,
        prompt=(PromptToken(5, "<|im_start|>"), PromptToken(99, "<|audioplaceholder|>", True), PromptToken(6, "\n")),
        frames=tuple(Frame(float(i), (Near(7, EVIL, 0.5),)) for i in range(10)),
        frame_seconds=0.08,
        tokens=tokens,
        words=(WordTrace(EVIL, 0, 1, 10.1, 10.4), WordTrace("two", 1, 2, 10.4, 10.8)) if attention else (),
        attention=((0.1,) * 10, (0.2,) * 10) if attention else None,
        log_mel=((0, 128, 255),) * 4,
    )
    stages = [StageRecord("encoder", EVIL, 0.5, (1, 10, 64), "float32")]
    return Trace(EVIL, 0.8, EVIL, {"encoder": EVIL}, stages, segments=[segment])


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_spelled_becomes_markup() -> None:
    page = Tags(details(trace()))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_the_counts_and_the_slot() -> None:
    page = Tags(details(trace()))
    assert "1 text + 1 placeholder + 1 text = 3 tokens -> 1 + 10 + 1 = 12 embeddings" in page.text
    assert "audio x 10" in page.text
    assert len([1 for _, a in page.tags if "ch-slot" in (a.get("class") or "")]) == 1


def test_frames_words_and_tokens_point_at_their_time() -> None:
    page = Tags(details(trace()))
    places = {(a.get("class") or tag).split()[0]: a["data-seek"] for tag, a in page.tags if "data-seek" in a}
    assert {"rect", "ch-word", "ch-chip", "ch-seek"} <= set(places)
    token = next(a for _, a in page.tags if "ch-token" in (a.get("class") or ""))
    assert (token["data-seek"], token["data-from"], token["data-to"]) == ("10.160", "2", "6")
    assert len([1 for tag, a in page.tags if tag == "rect" and "data-seek" in a]) == 10


def test_many_tokens_take_no_longer_than_their_number() -> None:
    """A saved comparison may hold any number, and it is drawn while others wait."""
    (segment,) = trace().segments
    looks = 0

    class Watched(TokenTrace):
        def __getattribute__(self, name: str) -> Any:
            nonlocal looks
            looks += name == "frame"
            return super().__getattribute__(name)

    tokens = [Watched(**{**vars(segment.tokens[0]), "frame": i % 10}) for i in range(500)]
    assert details(replace(trace(), segments=[replace(segment, tokens=tokens)])).count("ch-token") == 500
    assert looks < 10 * 500


def test_unsure_tokens_are_marked_in_words_too() -> None:
    page = Tags(details(trace()))
    unsure = [a for _, a in page.tags if "ch-unsure" in (a.get("class") or "")]
    assert len(unsure) == 1
    assert "(unsure)" in page.text


def test_without_attention_the_rest_is_shown() -> None:
    page = Tags(details(trace(attention=False)))
    assert "shows no attention" in page.text
    assert "audio x 10" in page.text
    assert not [1 for _, a in page.tags if "ch-word" in (a.get("class") or "")]


@pytest.mark.parametrize("empty", [None, Trace("a", 0.0, "s", {})])
def test_nothing_to_show(empty: Trace | None) -> None:
    assert "ch-lane" not in details(empty)

"""Permalinks: they come back as they were made, and what is unknown is named."""

from __future__ import annotations

import random
import string

import pytest

from canary_hub import Hub
from canary_hub.errors import HubError
from canary_hub.lanes import Lane
from canary_hub.share.links import LONGEST, Link, from_query, known, to_query
from canary_hub.specs import Stage

ODD = string.ascii_letters + string.digits + " \"'&=?#%+;<>/\\\n\t\u00e9\u202e\U0001f426"


def test_the_readable_form() -> None:
    lane = Lane("nano", {Stage.LLM: "canary/qwen3-peft"}, {"max_new_tokens": "50"})
    assert to_query(Link(lanes=(lane,))) == "v=1&stack=nano&llm=canary/qwen3-peft&max_new_tokens=50"
    two = Link("compare", (Lane("nano"), lane), details=True)
    assert to_query(two) == (
        "v=1&view=compare&lane=nano&lane=nano+llm%3Dcanary/qwen3-peft+max_new_tokens%3D50&details=on"
    )


@pytest.mark.parametrize("seed", range(300))
def test_whatever_is_in_it_comes_back(seed: int) -> None:
    rng = random.Random(seed)

    def text(least: int = 0) -> str:
        return "".join(rng.choices(ODD, k=rng.randint(least, 12)))

    def lane() -> Lane:
        stages = rng.sample(list(Stage), rng.randint(0, 3))
        names = rng.sample(["before", "max_new_tokens", "llm.seed", "view", "stack", "_x", "lane"], rng.randint(0, 4))
        return Lane("nano", {stage: f"some/{text(1).strip() or 'x'}" for stage in stages}, {n: text() for n in names})

    view = rng.choice(["transcribe", "compare"])
    lanes = tuple(lane() for _ in range(1 if view == "transcribe" else rng.randint(2, 4)))
    link = Link(view, lanes, rng.random() < 0.5, view == "compare" and rng.random() < 0.5)
    back, problems = from_query("?" + to_query(link) + "&__theme=dark")
    assert problems == []
    assert back == link


@pytest.mark.parametrize("seed", range(200))
def test_any_text_is_read_without_an_error(seed: int, hub: Hub) -> None:
    rng = random.Random(seed)
    keys = ["v", "view", "stack", "lane", "llm", "o.", "", "max_new_tokens", "details", "encoder"]
    values = ["1", "nano", "compare", "nano llm=x", '"', "on", "canary/qwen3", "", "%ff", "\0"]
    query = "&".join(f"{rng.choice(keys)}={rng.choice(values)}" for _ in range(rng.randint(0, 8)))
    link, _ = from_query("".join(rng.choices(ODD, k=20)) if seed % 2 else query)
    again, _ = known(link, hub)
    assert known(again, hub) == (again, [])


def test_unknown_parts_are_named_and_the_rest_is_kept(hub: Hub) -> None:
    link, problems = from_query("v=1&stack=nano&encoder=no/such&llm=canary/qwen3-peft&max_new_tokens=0&seed=3&x=1")
    assert problems == []
    kept, problems = known(link, hub)
    assert kept.lanes == (Lane("nano", {Stage.LLM: "canary/qwen3-peft"}, {"seed": "3"}),)
    told = " ".join(problems)
    assert "no/such" in told
    assert "max_new_tokens" in told
    assert "'x'" in told
    assert len(problems) == 3


def test_a_link_names_no_folder(hub: Hub) -> None:
    link, _ = from_query("v=1&view=compare&lane=nano+weights.canary%3D/etc&lane=nano")
    kept, problems = known(link, hub)
    assert kept.lanes == (Lane("nano"), Lane("nano"))
    assert "folders" in problems[0]
    assert "etc" not in to_query(link)


def test_a_shared_result_is_all_its_link_shows() -> None:
    link = Link(result="Zx0_-" * 4)
    assert from_query(to_query(link)) == (link, [])


def test_other_versions_and_endless_links_are_refused() -> None:
    assert from_query("v=2&stack=nano") == (Link(), ["The link has version '2'; this page reads version 1."])
    assert from_query("v=1&stack=" + "x" * LONGEST)[0] == Link()
    with pytest.raises(HubError, match="Shorten"):
        to_query(Link(lanes=(Lane("nano", {}, {"before": "x" * LONGEST}),)))

"""Permalinks: what a page shows, as short readable query parameters.

?v=1&stack=nano&llm=canary/qwen3-peft&max_new_tokens=50&details=on
?v=1&view=compare&lane=nano&lane=nano+llm%3Dcanary/qwen3-peft&at=once
?v=1&result=Zx0...                                                        a result that somebody shared

A link names parts and values, never files or folders of the machine that serves it. What is not known there
any more is named, and the rest holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, quote_plus

from ..errors import HubError
from ..lanes import Lane, parse_lane
from ..options import build_and_call, by_stage
from ..specs import Stage

if TYPE_CHECKING:
    from ..hub import Hub

VERSION = "1"
LONGEST = 8_000
"""Characters; longer addresses are cut off by servers and messengers."""
LANES = 4

View = Literal["transcribe", "compare"]
_STAGES = {stage.value: stage for stage in Stage}
_OWN = ("v", "view", "stack", "lane", "details", "at", "dtype", "segmenter", "result")


@dataclass(frozen=True)
class Link:
    """What a page shows.

    lanes: the stack of the transcribe view, or the lanes of the compare view.
    details: whether the injection details are on. at_once: whether lanes run at the same time.
    result: id of a shared result, which is shown instead of anything else.
    """

    view: View = "transcribe"
    lanes: tuple[Lane, ...] = ()
    details: bool = False
    at_once: bool = False
    result: str = ""


def to_query(link: Link) -> str:
    """The query string, without "?". Folders of weights are left out.

    Raises: HubError when it would be too long to be passed on.
    """
    if link.result:
        return f"v={VERSION}&result={quote_plus(link.result)}"
    pairs = [("v", VERSION)]
    lanes = [replace(lane, weights={}) for lane in link.lanes]
    if link.view == "compare":
        pairs += [("view", "compare"), *(("lane", str(lane)) for lane in lanes)]
        if link.at_once:
            pairs.append(("at", "once"))
    for lane in lanes[:1] if link.view == "transcribe" else ():
        pairs.append(("stack", lane.stack))
        pairs += [(stage.value, id) for stage, id in lane.components.items()]
        if lane.segmenter:
            pairs.append(("segmenter", lane.segmenter))
        pairs += [(_escaped(name), value) for name, value in lane.options.items()]
    if link.details:
        pairs.append(("details", "on"))
    query = "&".join(f"{quote_plus(key)}={quote_plus(value, safe='/:,')}" for key, value in pairs)
    if len(query) > LONGEST:
        raise HubError(
            f"This link would be {len(query):,} characters long; it may have {LONGEST:,}.",
            "Shorten the prompt or the options.",
        )
    return query


def from_query(query: str) -> tuple[Link, list[str]]:
    """The link of a query string, and what of it could not be read, in plain words.

    Parameters that begin with an underscore belong to the page around it and are left alone.
    """
    if len(query) > LONGEST:
        return Link(), [f"The link is longer than {LONGEST:,} characters."]
    problems: list[str] = []
    pairs = [(key, value) for key, value in parse_qsl(query.removeprefix("?"), keep_blank_values=True) if key]
    pairs = [(key, value) for key, value in pairs if not key.startswith("_")]
    last = dict(pairs)
    if last.get("v", VERSION) != VERSION:
        return Link(), [f"The link has version {last['v']!r}; this page reads version {VERSION}."]
    if "result" in last:
        return Link(result=last["result"]), []
    view: View = "compare" if last.get("view") == "compare" else "transcribe"
    if last.get("view", view) != view:
        problems.append(f"There is no view {last['view']!r}.")
    lanes: list[Lane] = []
    at_once = view == "compare" and last.get("at") == "once"
    if view == "compare":
        for text in (value for key, value in pairs if key == "lane"):
            try:
                lanes.append(parse_lane(text))
            except HubError as error:
                problems.append(error.message)
    elif "stack" in last:
        components = {stage: last[name] for name, stage in _STAGES.items() if name in last}
        options = {
            key.removeprefix("o."): value for key, value in last.items() if key not in _OWN and key not in _STAGES
        }
        lanes.append(Lane(last["stack"], components, options, segmenter=last.get("segmenter") or None))
    return Link(view, tuple(lanes), last.get("details") == "on", at_once), problems


def known(link: Link, hub: Hub) -> tuple[Link, list[str]]:
    """The link with only what this hub has, and what was left out, in plain words."""
    problems: list[str] = []
    if len(link.lanes) > LANES:
        problems.append(f"The link has {len(link.lanes)} lanes; {LANES} are shown.")
    lanes = []
    for lane in link.lanes[:LANES]:
        try:
            lanes.append(_known_lane(lane, hub, problems))
        except HubError as error:
            problems.append(error.message)
    return replace(link, lanes=tuple(lanes)), problems


def _known_lane(lane: Lane, hub: Hub, problems: list[str]) -> Lane:
    spec = hub.registry.stack(lane.stack)
    components = {}
    for stage, id in lane.components.items():
        try:
            components[stage] = hub.registry.component(id, stage).id
        except HubError as error:
            problems.append(error.message)
    parts = hub.components(spec.override(components))
    options: dict[str, str] = {}
    for name, value in lane.options.items():
        try:
            for stage, values in by_stage({name: value}, parts).items():
                build_and_call(parts[stage], values)
        except HubError as error:
            problems.append(error.message)
        else:
            options[name] = value
    segmenter = None
    try:
        segmenter = hub.registry.segmenter(lane.segmenter).id if lane.segmenter else None
    except HubError as error:
        problems.append(error.message)
    if lane.weights:
        problems.append("A link cannot name folders: its weights were left out.")
    return replace(lane, components=components, options=options, weights={}, segmenter=segmenter)


def _escaped(name: str) -> str:
    """An option's name as a parameter: one that means something else here gets "o." before it."""
    return f"o.{name}" if name in _OWN or name in _STAGES or name.startswith("_") else name


def describe(problems: Sequence[str]) -> str:
    """One sentence for the page; "" when everything was restored."""
    return " ".join(problems) + " The rest of the link was restored." if problems else ""

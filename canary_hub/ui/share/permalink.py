"""The address bar holds what the page shows, and a page opened with such an address shows it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from ...compare import MIN_LANES
from ...errors import HubError
from ...hub import Hub
from ...lanes import Lane
from ...share.links import Link, View, describe, from_query, known, to_query
from ..compare.forms import LaneForm
from ..compare.tab import AT_ONCE, IN_TURN, CompareTab
from ..transcribe.tab import TranscribeTab
from ..widgets.events import QUIET
from ..widgets.html import status
from ..widgets.runs import Moment
from .view import SharedView

SHOW = "(query) => window.canaryHub.showLink(query)"
"""Runs in the browser alone: puts the query string into the address bar."""
RESTORED = "() => { window.canaryHub.restored = true; }"
"""Runs in the browser alone: from now on the address follows the page; until then the page follows the address."""


class Permalink:
    """Ties the tabs to the address bar; draw it above the tabs.

    A line of its own says what was not understood of a link.
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.note = gr.HTML("", visible=False, elem_id="link-note")
        self.query = gr.Textbox("", visible="hidden", elem_id="link-query")
        self.view = gr.State("transcribe")

    def listen(
        self,
        demo: gr.Blocks,
        tabs: gr.Tabs,
        views: dict[View, gr.Tab],
        transcribe: TranscribeTab,
        compare: CompareTab,
        shared: SharedView | None,
    ) -> None:
        """Wire it up.

        Args:
            views: the tab of each view, whose ids are the views' names.
            shared: where shared results are shown; None where nothing is shared.
        """
        self.transcribe, self.compare, self.shared = transcribe, compare, shared
        of_transcribe = [transcribe.detailed, *transcribe.picker.inputs]
        of_compare = [compare.detailed, compare.order, *compare.cards.inputs]
        every: list[tuple[View, list[Any], Any]] = [
            ("transcribe", of_transcribe, self._of_transcribe),
            ("compare", of_compare, self._of_compare),
        ]
        for view, inputs, link in every:
            tab = views[view]
            changes = [widget.change for widget in inputs]
            gr.on(
                changes, _of_view(view, link), [self.view, *inputs], [self.query], trigger_mode="always_last", **QUIET
            )
            tab.select(_selected(view), None, [self.view], **QUIET).then(link, inputs, [self.query], **QUIET)
        self.query.change(None, [self.query], None, js=SHOW, **QUIET)
        outputs = [self.note, tabs, self.view, transcribe.detailed, *transcribe.picker.outputs]
        outputs += [compare.detailed, compare.order, *compare.cards.outputs]
        restored = demo.load(self._restore, None, [*outputs, *(shared.outputs if shared else [])], **QUIET)
        restored.then(None, None, None, js=RESTORED, **QUIET)

    def _of_transcribe(self, details: bool, *values: Any) -> Any:
        return self._query(lambda: Link(lanes=(_sayable(self.transcribe.picker.lane(values)),), details=details))

    def _of_compare(self, details: bool, order: str, *values: Any) -> Any:
        lanes = self.compare.cards.lanes
        return self._query(lambda: Link("compare", tuple(lanes(values)), details, order == AT_ONCE))

    def _query(self, link: Any) -> Any:
        try:
            return to_query(link())
        except HubError:  # half typed, or too long: the address stays as it was
            return gr.skip()

    def _restore(self, request: gr.Request) -> list[Any]:
        """What the address says, where it says anything; the rest stays as it is."""
        link, problems = from_query(str(request.query_params or ""))
        link, more = known(link, self.hub)
        if link.result and self.shared is None:
            more.append("This page shares no results.")
        message = describe([*problems, *more])
        line = status(Moment("failed", "Not all of this link is understood here.", message)) if message else ""
        opened = self.shared.opened(link.result) if self.shared and link.result else None
        transcribe = compare = None
        if link.view == "transcribe" and link.lanes:
            transcribe = [link.details, *self.transcribe.picker.show(link.lanes[0])]
        if link.view == "compare" and len(link.lanes) >= MIN_LANES:
            forms = [LaneForm.of(self.hub, lane) for lane in link.lanes]
            compare = [link.details, AT_ONCE if link.at_once else IN_TURN, *self.compare.cards.show(forms)]
        return [
            gr.update(value=line, visible=bool(line)),
            gr.Tabs(visible=False) if opened else gr.Tabs(selected=link.view) if link.lanes else gr.skip(),
            link.view if link.lanes else gr.skip(),
            *_or_same(transcribe, 1 + len(self.transcribe.picker.outputs)),
            *_or_same(compare, 2 + len(self.compare.cards.outputs)),
            *_or_same(opened, len(self.shared.outputs) if self.shared else 0),
        ]


def _sayable(lane: Lane) -> Lane:
    """The lane with its options as one types them, without those for which there are no words: null, lists, objects."""
    options = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in lane.options.items()
        if isinstance(value, str | int | float)
    }
    return replace(lane, options=options)


def _selected(view: View) -> Any:
    return lambda: view


def _of_view(view: View, link: Any) -> Any:
    """`link`, where that view is shown; fields of a hidden tab change too, when the page fills them."""
    return lambda shown, *values: link(*values) if shown == view else gr.skip()


def _or_same(values: Sequence[Any] | None, count: int) -> Sequence[Any]:
    """The values, or as many that change nothing."""
    return [gr.skip()] * count if values is None else values

"""A shared result, read-only: what was found, with its audio where that was shared. No model runs."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from ...compare import Comparison, LaneResult
from ...errors import HubError, explain
from ...run.result import Result
from ...share.store import Opened, SharedResults
from ..compare.html import measures, transcripts
from ..server.gradio_inside import keep_file
from ..transcribe.downloads import captions
from ..transcribe.html import segments, stages
from ..widgets.details import details, side_by_side
from ..widgets.events import QUIET
from ..widgets.html import status
from ..widgets.player import ON_SEEK, SEEK
from ..widgets.runs import Moment
from ..widgets.templates import render


class SharedView:
    """The widgets; `outputs` are what `opened` fills."""

    def __init__(self, shared: SharedResults) -> None:
        self.shared = shared
        with gr.Column(visible=False, elem_id="shared") as self.column:
            self.heading = gr.HTML("")
            self.audio = gr.Audio(
                interactive=False,
                label="Speech",
                visible=False,
                buttons=["download"],
                elem_id="shared-speech",
                elem_classes="ch-speech",
            )
            self.body = gr.HTML("", elem_id="shared-body", js_on_load=ON_SEEK)
            with gr.Accordion("Delete this result", open=False, elem_id="shared-delete"):
                self.key = gr.Textbox(
                    label="Key", info="It was shown when the link was made.", submit_btn="Delete", elem_id="shared-key"
                )
                self.message = gr.HTML("")
        self.id = gr.State("")

    @property
    def outputs(self) -> list[Any]:
        """What `opened` gives values for."""
        return [self.column, self.heading, self.audio, self.body, self.id]

    def listen(self) -> None:
        """Wire the key, and the times to the player."""
        self.key.submit(self._delete, [self.id, self.key], [self.message, self.audio, self.body], **QUIET)
        self.body.click(None, None, [self.audio], js=SEEK, **QUIET)

    def opened(self, id: str) -> list[Any]:
        """The outputs for the result with that id, or what is wrong with the link."""
        try:
            found = self.shared.open(id)
            audio = gr.Audio(visible=False)
            if found.audio is not None:
                path = keep_file(found.audio.read_bytes(), "speech.flac", self.audio)
                subtitles = captions(found.result) if isinstance(found.result, Result) else None
                audio = gr.Audio(path, visible=True, subtitles=subtitles)
            return [gr.update(visible=True), heading(found), audio, body(found), id]
        except Exception as error:
            failed = status(Moment("failed", *explain(error)))
            return [gr.update(visible=True), failed, gr.Audio(visible=False), "", ""]

    def _delete(self, id: str, key: str) -> list[Any]:
        try:
            if not id:
                raise HubError("There is nothing to delete here.")
            self.shared.delete(id, key)
        except Exception as error:
            return [status(Moment("failed", *explain(error))), gr.skip(), gr.skip()]
        answer = status(Moment("stopped", "Deleted.", "The link leads nowhere now."))
        return [answer, gr.Audio(None, visible=False), ""]


def heading(found: Opened) -> str:
    """What it is, when it was shared and when it goes."""
    created, expires = (time.strftime("%d %B %Y", time.gmtime(at)) for at in (found.created, found.expires))
    what = "comparison" if isinstance(found.result, Comparison) else "transcript"
    return render("share/heading.html", what=what, file=found.result.file, created=created, expires=expires)


def body(found: Opened) -> str:
    """The result as the tab that made it shows it."""
    result = found.result
    if isinstance(result, Comparison):
        traces = [
            (f"Lane {number}", lane.trace)
            for number, lane in enumerate(result.lanes, 1)
            if isinstance(lane, LaneResult) and lane.trace
        ]
        return transcripts(result) + measures(result) + side_by_side(traces)
    moment = Moment("done", result=result, warnings=result.warnings)
    return (
        status(moment)
        + render("share/text.html", text=result.text)
        + segments(dict(enumerate(result.segments)), heard=found.audio is not None)
        + stages(moment, {})
        + details(result.trace)
    )

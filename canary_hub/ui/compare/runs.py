"""A comparison as the page shows it: a sequence of moments, each complete in itself. No gradio here."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ...audio.decode import Limits, load_audio
from ...compare import Comparison, Event, LaneDone, LaneEvent, LaneFailed, LaneLoading, LaneStarted, compare, from_json
from ...errors import HubError, explain
from ...hub import Hub
from ...lanes import Lane
from ...run.events import SegmentDone, StageDone, Token
from ...specs import Stage, WeightsRef
from ..server.deadline import limited
from ..widgets.loading import download_progress
from ..widgets.runs import DOING, State, doing_after, joined
from ..widgets.zerogpu import gpu

LaneState = Literal["waiting", "busy", "done", "stopped", "failed"]


SHOW_EVERY = 0.15
"""Seconds between two moments at least: all lanes are drawn anew each time, and a slow browser has to keep up with
them and with a click on Stop."""


@dataclass(frozen=True)
class LaneMoment:
    """One lane at one moment.

    lane: its line.
    message, hint: what it is doing, or why it failed and what to do.
    text: the transcript so far.
    """

    lane: str
    state: LaneState = "waiting"
    message: str = "Waiting"
    hint: str = ""
    text: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompareMoment:
    """What the Compare tab shows at one moment.

    message, hint: the status line.
    comparisons: what was found, at the end; several only where a saved file holds several.
    opened: the name of the saved file they come from; "" after a run.
    """

    state: State = "idle"
    message: str = ""
    hint: str = ""
    lanes: tuple[LaneMoment, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    opened: str = ""

    def stopped(self) -> CompareMoment:
        """The same, when nothing more will come."""
        lanes = tuple(
            replace(lane, state="stopped", message="Stopped") if lane.state in ("waiting", "busy") else lane
            for lane in self.lanes
        )
        return replace(
            self, state="stopped", message="Stopped.", hint="What was written until then is kept.", lanes=lanes
        )


def run_lanes(
    hub: Hub, lanes: Sequence[Lane], audio: str | None, reference: str = "", details: bool = False, in_turn: bool = True
) -> Generator[CompareMoment, None, None]:
    """Compare lanes on one file; a failure is a moment too, never an exception.

    Closing the iterator stops every lane within a token.
    """
    moment = CompareMoment("busy", "Reading the audio", lanes=tuple(LaneMoment(str(lane)) for lane in lanes))
    yield moment
    try:
        if not audio:
            raise HubError("There is no audio yet.", "Upload a file or record something first.")
        if not Path(audio).exists():
            raise HubError("This audio has been deleted from the server meanwhile.", "Upload or record it again.")
        with closing(limited(hub, lanes, _compute(hub, lanes, audio, reference, details, in_turn))) as moments:
            for moment in moments:
                yield moment
    except Exception as error:
        message, hint = explain(error)
        yield replace(moment.stopped(), state="failed", message=message, hint=hint)


def _gpu_seconds(lanes: Sequence[Lane], audio: str, reference: str, details: bool, in_turn: bool) -> float:
    """As for one stack (see runs.py), for every lane; bad audio is told before there is a GPU."""
    length = load_audio(audio, limits=Limits.from_env()).seconds
    return len(lanes) * length * (0.15 if details else 0.1)


@gpu(_gpu_seconds)
def _compute(
    hub: Hub, lanes: Sequence[Lane], audio: str, reference: str, details: bool, in_turn: bool
) -> Generator[CompareMoment, None, None]:
    """Load and run; the part that needs a GPU."""
    moment = CompareMoment("busy", lanes=tuple(LaneMoment(str(lane)) for lane in lanes))
    progress = _Progress(hub, lanes, in_turn)
    shown = 0.0
    with closing(compare(hub, lanes, audio, reference, details, in_turn, Limits.from_env())) as events:
        for event in events:
            moment = progress.after(moment, event)
            if (
                isinstance(event, LaneEvent)
                and isinstance(event.event, Token)
                and time.monotonic() - shown < SHOW_EVERY
            ):
                continue
            shown = time.monotonic()
            yield moment


class _Progress:
    """Turns events into moments."""

    def __init__(self, hub: Hub, lanes: Sequence[Lane], in_turn: bool) -> None:
        self._hub, self._lanes, self._in_turn = hub, lanes, in_turn
        self._texts: list[dict[int, str]] = [{} for _ in lanes]
        self._missing: dict[int, tuple[WeightsRef, ...]] = {}

    def after(self, moment: CompareMoment, event: Event) -> CompareMoment:
        """What is shown once `event` has happened."""
        if isinstance(event, Comparison):
            return replace(moment, state="done", message="Done", comparisons=(event,))
        lanes = list(moment.lanes)
        if self._in_turn:
            for i, other in enumerate(lanes):
                if i != event.lane and other.state == "busy":  # long audio goes through the lanes in several turns
                    lanes[i] = replace(other, message="Waiting for its next turn")
        lanes[event.lane] = self._lane(lanes[event.lane], event)
        finished = sum(lane.state in ("done", "failed") for lane in lanes)
        return replace(moment, message=f"Comparing: {finished} of {len(lanes)} lanes finished", lanes=tuple(lanes))

    def _lane(
        self, lane: LaneMoment, event: LaneLoading | LaneStarted | LaneEvent | LaneDone | LaneFailed
    ) -> LaneMoment:
        if isinstance(event, LaneFailed):
            return replace(lane, state="failed", message=event.failed.message, hint=event.failed.hint)
        if isinstance(event, LaneDone):
            return replace(lane, state="done", message="Finished", text=event.result.text)
        if isinstance(event, LaneLoading):
            return replace(lane, state="busy", message=self._loading(event.lane))
        if isinstance(event, LaneStarted):
            return replace(lane, state="busy", message=DOING[Stage.PREPROCESSOR], warnings=event.warnings)
        texts, happened = self._texts[event.lane], event.event
        if isinstance(happened, StageDone):
            return replace(lane, state="busy", message=doing_after(happened.record))
        texts[happened.segment] = happened.result.text if isinstance(happened, SegmentDone) else happened.text
        return replace(lane, state="busy", message=DOING[Stage.LLM], text=joined(texts))

    def _loading(self, lane: int) -> str:
        if lane not in self._missing:
            self._missing[lane] = self._hub.assemble(self._lanes[lane]).missing
        return download_progress(self._missing[lane]) or "Loading"


MAX_SAVED = 25 << 20
"""Bytes of a saved comparison; an hour of speech in four lanes fits, with the details of some minutes."""


def opened(path: str, name: str) -> CompareMoment:
    """A saved comparison as a moment; nothing runs. A file that is none is a moment too."""
    try:
        if Path(path).stat().st_size > MAX_SAVED:
            raise HubError(f"This file has more than {MAX_SAVED >> 20} MB.", "Export the comparison without details.")
        found = tuple(from_json(Path(path).read_bytes()))
        if not found:
            raise HubError("This file holds no comparison.", "Export a comparison as JSON first.")
        return CompareMoment("done", "Done", comparisons=found, opened=name)
    except Exception as error:
        return CompareMoment("failed", *explain(error))

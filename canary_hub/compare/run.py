"""Running two to four lanes on one audio, in turn or at once, as one stream of events."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from ..audio.decode import Limits
from ..errors import HubError
from ..hub import Hub
from ..lanes import Lane
from ..options import check_dtype
from ..run.reuse import StageCache
from .distances import Distances
from .events import Event
from .lane_run import Audio, LaneRun
from .result import Comparison, FailedLane, LaneResult
from .scoring import NORMALISERS, errors, word_diff

MIN_LANES, MAX_LANES = 2, 4


def compare(
    hub: Hub,
    lanes: Sequence[Lane],
    source: Any,
    reference: str | None = None,
    details: bool = False,
    in_turn: bool = True,
    limits: Limits | None = None,
    *,
    dtype: str | None = None,
    device: str | None = None,
) -> Generator[Event, None, None]:
    """Run lanes on one audio; the last event is the `Comparison`.

    Lanes that cannot run fail first. In turn, a lane is then loaded, runs, and the next one follows; at once, all
    are loaded and then run in a thread each. Audio of more than `BATCH_SEGMENTS` segments goes through the lanes
    batch by batch, so that no more than one batch of stage outputs is ever held. Every lane stays loaded to the
    end: what several have in common is in memory once and computed once.

    Per lane: LaneLoading (any number), LaneStarted, LaneEvents, LaneDone; or LaneFailed at any point, as its last.
    Closing the iterator stops every lane within a token and gives the stacks back to the pool.

    Args:
        lanes: two to four; may be equal.
        source: what `load_audio` takes, or a Waveform; decoded once per sample rate.
        reference: what was said; blank counts as None.
        details: the results carry traces.
        dtype, device: where a lane names no dtype; see `Hub.load`.

    Raises: HubError for another number of lanes or dtype; AudioError from the first step.
    """
    check_dtype(dtype)
    if not MIN_LANES <= len(lanes) <= MAX_LANES:
        count = "1 lane" if len(lanes) == 1 else f"{len(lanes)} lanes"
        raise HubError(f"{count} cannot be compared.", f"Give {MIN_LANES} to {MAX_LANES} lanes.")
    return _compare(hub, lanes, Audio(source, limits), (reference or "").strip(), details, in_turn, dtype, device)


def _compare(
    hub: Hub,
    lanes: Sequence[Lane],
    audio: Audio,
    reference: str,
    details: bool,
    in_turn: bool,
    dtype: str | None,
    device: str | None,
) -> Generator[Event, None, None]:
    name, duration = audio.read()
    distances, shared = Distances(), StageCache()
    runs = [LaneRun(i, lane, distances, shared) for i, lane in enumerate(lanes)]
    try:
        for run in runs:
            yield from run.check(hub)
        if not in_turn:
            for run in runs:
                yield from run.load(hub, audio, runs[0], details, dtype, device)
        while going := [run for run in runs if run.outcome is None]:
            if in_turn:
                for run in going:
                    yield from run.load(hub, audio, runs[0], details, dtype, device)
                    yield from run.batch()
            else:
                yield from _at_once(going)
            shared.clear()
            distances.next_batch()
    finally:
        for run in runs:
            run.close()
    yield _comparison(runs, distances, name, duration, reference, in_turn)


def _at_once(runs: Sequence[LaneRun]) -> Iterator[Event]:
    """One batch of every lane, each in a thread; events in the order in which they happen."""
    events: SimpleQueue[Event | None] = SimpleQueue()
    stop = threading.Event()

    def work(run: LaneRun) -> None:
        try:
            for event in run.batch():
                events.put(event)
                if stop.is_set():
                    run.stop()  # at once, not when all threads have ended: one of them may wait for this lane's LLM
                    return
        finally:
            events.put(None)

    threads = [threading.Thread(target=work, args=(run,), daemon=True, name=f"lane {run.index + 1}") for run in runs]
    try:
        for thread in threads:
            thread.start()
        working = len(threads)
        while working:
            event = events.get()
            if event is None:
                working -= 1
            else:
                yield event
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _comparison(
    runs: Sequence[LaneRun], distances: Distances, name: str, duration: float, reference: str, in_turn: bool
) -> Comparison:
    first = runs[0].outcome
    lanes: list[LaneResult | FailedLane] = []
    for run in runs:
        lane = run.outcome
        assert lane is not None
        if isinstance(lane, LaneResult):
            others = [key for other in runs if other is not run for key in other.keys.values()]
            lane = replace(
                lane,
                stages={
                    part: replace(stage, in_common=part in run.keys and run.keys[part] in others)
                    for part, stage in lane.stages.items()
                },
                distances=distances.of(run.index),
            )
            if run.index and isinstance(first, LaneResult):
                lane = replace(lane, against_first=tuple(word_diff(first.text, lane.text, "raw")))
            if reference:
                lane = replace(
                    lane,
                    errors={normalise: errors(reference, lane.text, normalise) for normalise in NORMALISERS},
                    against_reference=tuple(word_diff(reference, lane.text)),
                )
        lanes.append(lane)
    return Comparison(name, duration, tuple(lanes), reference or None, in_turn)

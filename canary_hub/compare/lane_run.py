"""One lane of a comparison: loaded, run batch by batch, measured, closed."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Hashable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial
from typing import Any

from ..assembly import Assembly
from ..audio.decode import Limits, load_audio
from ..audio.waveform import Span, Waveform
from ..errors import explain
from ..hub import Hub
from ..lanes import Lane
from ..pipeline import BATCH_SEGMENTS, Stack
from ..run.background import in_background
from ..run.events import Done, SegmentDone, StageDone, Token
from ..run.events import Event as RunEvent
from ..run.result import Result
from ..run.reuse import StageCache
from ..specs import Stage
from .distances import Distances
from .events import Event, LaneDone, LaneEvent, LaneFailed, LaneLoading, LaneStarted
from .result import FailedLane, LaneResult, LaneStage

USUAL_RATE = 16000
"""Most stacks want it: the audio is read at this rate first, so that bad audio is refused before anything loads."""

LOOK_EVERY = 0.5
"""Seconds between two `LaneLoading` while a stack loads."""


class Audio:
    """One audio input, decoded once per sample rate."""

    def __init__(self, source: Any, limits: Limits | None) -> None:
        self._source, self._limits = source, limits
        self._decoded: dict[int, tuple[Waveform, float]] = {}
        self._used: set[int] = set()

    def read(self) -> tuple[str, float]:
        """Its name and its length in seconds. Raises: AudioError."""
        rate = self._source.rate if isinstance(self._source, Waveform) else USUAL_RATE
        wave, _ = self._decode(rate)
        return wave.name, wave.seconds

    def at(self, rate: int) -> tuple[Waveform, float, bool]:
        """The waveform, the seconds that decoding took, and whether another lane has used it before."""
        shared = rate in self._used
        self._used.add(rate)
        return *self._decode(rate), shared

    def _decode(self, rate: int) -> tuple[Waveform, float]:
        if rate not in self._decoded:
            started = time.perf_counter()
            wave = load_audio(self._source, rate, self._limits)
            self._decoded[rate] = wave, time.perf_counter() - started
        return self._decoded[rate]


class LaneRun:
    """A lane and its state.

    outcome: its result or its failure, once there is one.
    keys: what makes two of the lanes' components the same, by stage.
    """

    def __init__(self, index: int, lane: Lane, distances: Distances, shared: StageCache) -> None:
        self.index, self.lane = index, lane
        self.outcome: LaneResult | FailedLane | None = None
        self.keys: dict[str, Hashable] = {}
        self.spans: list[Span] = []
        self._distances, self._shared = distances, shared
        self._assembly: Assembly | None = None
        self._stack: Stack | None = None
        self._events: Iterator[RunEvent] | None = None
        self._started: LaneResult | None = None  # the result as far as it is known before the run
        self._stages: dict[str, LaneStage] = {}
        self._clock = 0.0  # seconds of this lane's work, as if it ran alone and nobody looked
        self._first_token: float | None = None

    def check(self, hub: Hub) -> Iterator[Event]:
        """Whether the lane can run at all, before any weight is read."""
        try:
            self._assembly = hub.assemble(self.lane)
            self._assembly.fit.require(str(self.lane))
        except Exception as error:
            yield self._fail(error)

    def load(
        self, hub: Hub, audio: Audio, first: LaneRun, details: bool, dtype: str | None, device: str | None
    ) -> Iterator[Event]:
        """Build the stack unless that is done, and prepare the run."""
        if self._stack is not None or self.outcome is not None:
            return
        assert self._assembly is not None, "check comes first"
        try:
            loading = in_background(partial(hub.load, self._assembly, dtype=self.lane.dtype or dtype, device=device))
            began = time.monotonic()
            try:
                yield LaneLoading(self.index)
                while not wait([loading], LOOK_EVERY).done:
                    yield LaneLoading(self.index, time.monotonic() - began)
                self._stack = loading.result()
            finally:
                if self._stack is None:
                    loading.add_done_callback(_close)
            wave, decoding = self._prepare(audio, self._stack)
            if first.spans and not _cut_alike(self.spans, first.spans):
                self._distances.leave_out(self.index, "the audio is cut into other segments")
            self._events = self._stack.run([wave], None, [decoding], details, self._shared, [self.spans])
            yield LaneStarted(self.index, len(self.spans), self._stack.warnings)
        except Exception as error:
            yield self._fail(error)

    def _prepare(self, audio: Audio, stack: Stack) -> tuple[Waveform, float]:
        spec = stack.spec
        wave, decoding, decoded_before = audio.at(stack.rate)
        started = time.perf_counter()
        self.spans = stack.split(wave)
        decoding += time.perf_counter() - started
        self._clock = decoding
        self._stages["audio"] = LaneStage(None, decoding, decoded_before)
        options = {}
        for stage, part in stack.parts.items():
            models = stack.assembly.builds[stage].options, stack.assembly.calls[stage]
            options[stage.value] = {k: v for model in models for k, v in model.model_dump(mode="json").items()}
            entry = stack.entries[stage]
            self.keys[stage.value] = entry.key
            self._stages[stage.value] = LaneStage(part.id, parameters=entry.parameters, nbytes=entry.nbytes)
        self._started = LaneResult(
            lane=str(self.lane),
            stack=spec.name,
            components={stage.value: spec.components[stage] for stage in Stage},
            options=options,
            dtype=stack.assembly.builds[Stage.LLM].dtype,
            segments=(),
            stages={},
            first_token_seconds=None,
            warnings=stack.warnings,
        )
        return wave, decoding

    def batch(self) -> Iterator[Event]:
        """Run one batch of segments; at its end `outcome` is set if it was the last one."""
        if self.outcome is not None:
            return
        try:
            while True:
                assert self._events is not None
                started = time.perf_counter()
                event = next(self._events)
                elapsed = time.perf_counter() - started
                if isinstance(event, Done):
                    self.outcome = self._result(event.result)
                    yield LaneDone(self.index, self.outcome)
                    return
                if isinstance(event, StageDone):
                    self._distances.add(self.index, event)
                self._count(event, elapsed)
                yield LaneEvent(self.index, StageDone(event.record) if isinstance(event, StageDone) else event)
                if isinstance(event, SegmentDone):
                    done = event.segment + 1
                    if done % BATCH_SEGMENTS == 0 and done < len(self.spans):
                        return
        except Exception as error:
            yield self._fail(error)

    def _count(self, event: StageDone | Token | SegmentDone, elapsed: float) -> None:
        """Add the time to the stage that took it. A stage's record has its seconds; the LLM's record would include what
        the caller does between two tokens, so its work is measured here."""
        if isinstance(event, SegmentDone):
            return
        llm = Stage.LLM.value
        stage, seconds, shared = llm, elapsed, False
        if isinstance(event, StageDone) and event.record.stage != llm:
            stage, seconds, shared = event.record.stage, event.record.seconds, event.record.shared
        before = self._stages[stage]
        self._stages[stage] = replace(before, seconds=before.seconds + seconds, shared=before.shared or shared)
        self._clock += seconds
        if isinstance(event, Token) and self._first_token is None:
            self._first_token = self._clock

    def _result(self, result: Result) -> LaneResult:
        assert self._started is not None
        audio = replace(self._stages["audio"], seconds=result.seconds["audio"])
        return replace(
            self._started,
            segments=tuple(result.segments),
            stages={**self._stages, "audio": audio},
            first_token_seconds=self._first_token,
            trace=result.trace,
        )

    def _fail(self, error: Exception) -> LaneFailed:
        self.stop()
        self._distances.leave_out(self.index, "lane 1 failed" if not self.index else "failed")
        self.outcome = failed = FailedLane(str(self.lane), *explain(error))
        return LaneFailed(self.index, failed)

    def stop(self) -> None:
        """End the run, so that whoever waits for this lane's LLM gets it."""
        if isinstance(self._events, Generator):
            self._events.close()

    def close(self) -> None:
        """End the run and give the stack back."""
        self.stop()
        if self._stack is not None:
            self._stack.close()
        self._events = self._stack = None


def _cut_alike(spans: Sequence[Span], others: Sequence[Span]) -> bool:
    """Whether two lanes hear the same segments, to a frame of 10 ms: their sample rates may differ."""
    return len(spans) == len(others) and all(
        math.isclose(a.start, b.start, abs_tol=0.01) and math.isclose(a.end, b.end, abs_tol=0.01)
        for a, b in zip(spans, others, strict=True)
    )


def _close(loading: Future[Stack]) -> None:
    """Give back a stack whose lane was stopped while it was loaded."""
    if loading.exception() is None:
        loading.result().close()

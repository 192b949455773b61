"""One run as the page shows it: a sequence of moments, each complete in itself. No gradio here."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Literal

from ...audio.decode import Limits, load_audio
from ...audio.waveform import Waveform
from ...errors import HubError, explain
from ...hub import Hub
from ...lanes import Lane
from ...pipeline import Stack
from ...run.events import Done, SegmentDone, StageDone, Token
from ...run.result import Result, SegmentResult, StageRecord
from ...specs import Stage
from ..server.deadline import limited
from .loading import load, memory
from .zerogpu import gpu

SHOW_EVERY = 0.1
"""Seconds between two moments at least: tokens that come faster are shown together. A slow machine's browser
draws for 40 ms at each, and a page that does nothing else never comes to a click on Stop."""

UNFINISHED = "stopped before its end"

State = Literal["idle", "busy", "done", "stopped", "failed"]

DOING = {
    Stage.PREPROCESSOR: "Computing features",
    Stage.ENCODER: "Encoding",
    Stage.PROJECTOR: "Projecting into the LLM",
    Stage.PROMPT_TEMPLATE: "Placing the audio in the prompt",
    Stage.LLM: "Writing",
}


@dataclass(frozen=True)
class Moment:
    """What the page shows at one moment.

    message, hint: the status line; the hint says what to do about a failure.
    share: how much is done, 0 to 1; None when that is not known.
    text: the transcript so far.
    segments: those that are finished, by their index. total: how many there are.
    records: what each stage did, batch by batch. nbytes: of the loaded components.
    result: of the whole file at the end; before that, what there is of it.
    error: the class of the error behind a failure, for a face that has to tell whose fault it was.
    """

    state: State = "idle"
    message: str = ""
    hint: str = ""
    share: float | None = None
    text: str = ""
    segments: Mapping[int, SegmentResult] = field(default_factory=dict)
    total: int = 0
    records: tuple[StageRecord, ...] = ()
    result: Result | None = None
    warnings: tuple[str, ...] = ()
    nbytes: int = 0
    error: type[Exception] | None = None


def transcribe(hub: Hub, lane: Lane, audio: str | None, details: bool = False) -> Generator[Moment, None, None]:
    """Load what was picked and run it over one file; a failure is a moment too, never an exception.

    Closing the iterator stops the work within a token. With `details` the result carries a trace.
    """
    moment = Moment("busy", "Reading the audio")
    yield moment
    try:
        if not audio:
            raise HubError("There is no audio yet.", "Upload a file or record something first.")
        wave, seconds = _read(audio)
        with closing(limited(hub, [lane], _compute(hub, lane, wave, audio, seconds, details))) as moments:
            for moment in moments:
                yield moment
    except Exception as error:
        message, hint = explain(error)
        yield replace(moment, state="failed", message=message, hint=hint, share=None, error=type(error))


def _read(audio: str) -> tuple[Waveform, float]:
    """The file at the rate most stacks want, first of all: bad input is told before anything loads."""
    if not os.path.exists(audio):  # no error for a name that no file can have
        raise HubError("This audio has been deleted from the server meanwhile.", "Upload or record it again.")
    started = time.perf_counter()
    return load_audio(audio, 16000, Limits.from_env()), time.perf_counter() - started


def _at_rate(wave: Waveform, audio: str, stack: Stack) -> tuple[Waveform, float]:
    if wave.rate == stack.rate:
        return wave, 0.0
    started = time.perf_counter()
    return stack.load_audio(audio), time.perf_counter() - started


def _gpu_seconds(lane: Lane, wave: Waveform, audio: str, seconds: float, details: bool) -> float:
    """Generous for 25 ms a token, four tokens a second of speech, one segment after the other."""
    return wave.seconds * (0.15 if details else 0.1)


@gpu(_gpu_seconds)
def _compute(
    hub: Hub, lane: Lane, wave: Waveform, audio: str, seconds: float, details: bool
) -> Generator[Moment, None, None]:
    """Load and run; the part that needs a GPU. `seconds` is what reading the file took."""
    with (yield from load(hub, lane, lambda message: Moment("busy", message))) as stack:
        moment = Moment("busy", DOING[Stage.PREPROCESSOR], warnings=stack.warnings, nbytes=memory(stack))
        yield moment
        wave, more = _at_rate(wave, audio, stack)
        with closing(_run(stack, wave, seconds + more, moment, details)) as moments:
            yield from moments


def _run(stack: Stack, wave: Waveform, seconds: float, moment: Moment, details: bool) -> Generator[Moment, None, None]:
    started = time.perf_counter()
    spans = stack.split(wave)
    seconds += time.perf_counter() - started
    total = len(spans)
    texts: dict[int, str] = {}
    segments: dict[int, SegmentResult] = {}
    moment = replace(moment, total=total)
    shown = 0.0

    def so_far() -> Result:
        found = [
            segments.get(i) or SegmentResult(spans[i].start, spans[i].end, texts[i], note=UNFINISHED)
            for i in sorted(texts)
        ]
        return Result(wave.name, wave.seconds, stack.name, found)

    with closing(stack.run([wave], None, [seconds], details, spans=[spans])) as events:  # type: ignore[type-var]
        for event in events:
            if isinstance(event, Token):
                texts[event.segment] = event.text
                now = time.monotonic()
                if now - shown < SHOW_EVERY:
                    continue
                shown = now
                moment = replace(moment, text=joined(texts), result=so_far())
            elif isinstance(event, StageDone):
                moment = _after_stage(moment, event.record, len(segments))
            elif isinstance(event, SegmentDone):
                texts[event.segment] = event.result.text
                segments[event.segment] = event.result
                moment = replace(
                    moment,
                    text=joined(texts),
                    segments=dict(segments),
                    share=len(segments) / total,
                    result=so_far(),
                )
                if len(segments) < total and time.monotonic() - shown < SHOW_EVERY:
                    continue
                shown = time.monotonic()
            elif isinstance(event, Done):
                moment = replace(
                    moment, state="done", text=event.result.text, result=event.result, share=None, message="Done"
                )
            yield moment


def _after_stage(moment: Moment, record: StageRecord, finished: int) -> Moment:
    message = doing_after(record)
    if moment.total > 1:
        message += f": {finished} of {moment.total} segments finished"
    return replace(moment, message=message, records=(*moment.records, record))


def doing_after(record: StageRecord) -> str:
    """What a run does next, once a stage is done."""
    stages = list(Stage)
    return DOING[stages[(stages.index(Stage(record.stage)) + 1) % len(stages)]]


def joined(texts: Mapping[int, str]) -> str:
    """The transcript so far, from the texts of the segments by their index."""
    return " ".join(texts[i].strip() for i in sorted(texts) if texts[i].strip())

"""Stacks over a test set, one after the other, going on where an earlier evaluation stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AudioError, HubError
from ..hub import Hub
from ..lanes import Lane
from ..options import check_dtype
from .identity import file_name, identity
from .report import EvalReport, lane_report, paired_tests
from .results import ResultsFile, UtteranceResult, superseded
from .utterance import Manifest, Utterance

if TYPE_CHECKING:
    from ..audio.waveform import Waveform
    from ..pipeline import Stack


@dataclass(frozen=True)
class Progress:
    """A batch is on the disk, or (at the start of a lane) so much was there already.

    done, total: utterances; seconds, total_seconds: their audio. The totals are None where they are not known.
    warnings: at the start of a lane, earlier results that are not used, and parts not trained together.
    """

    lane: str
    done: int
    total: int | None
    seconds: float
    total_seconds: float | None
    warnings: tuple[str, ...] = ()


def evaluate(
    hub: Hub,
    manifest: Manifest,
    lanes: Sequence[Lane],
    out: str | Path,
    *,
    dtype: str | None = None,
    device: str | None = None,
) -> Iterator[Progress | EvalReport]:
    """Transcribe what is not yet in `out`, reporting progress, and score everything: the last item is the EvalReport.

    Every lane has a file of its own in `out` (see `ResultsFile`), named after the lane and what its transcripts
    depend on: a changed stack gets a new file. An utterance whose audio cannot be read becomes a row with an error.
    Raises: what `Hub.load` raises, for all lanes before the first is run; HubError when `out` belongs to another
        manifest.
    """
    if len({str(lane) for lane in lanes}) < len(lanes):
        raise HubError("A stack is named twice.", "Name stacks that differ, such as nano and nano dtype=bfloat16.")
    check_dtype(dtype)
    assemblies = [hub.assemble(lane) for lane in lanes]
    for lane, assembly in zip(lanes, assemblies, strict=True):
        assembly.fit.require(str(lane))
    reports = []
    for lane, assembly in zip(lanes, assemblies, strict=True):
        used_dtype = lane.dtype or dtype or assembly.spec.dtype
        head = identity(hub, assembly, used_dtype, device)
        path = Path(out) / file_name(str(lane), head)
        load = cache(partial(hub.load, assembly, dtype=used_dtype, device=device))  # when something is missing
        seen: set[int] = set()
        try:
            with ResultsFile(path, head) as results:
                warnings = (*assembly.fit.warnings, *superseded(path, head))
                for done, seconds in _transcribe(load, manifest, results, seen):
                    yield Progress(str(lane), done, manifest.count, seconds, manifest.seconds, warnings)
                    warnings = ()
                reports.append(lane_report(str(lane), path.name, [results.rows[index] for index in sorted(seen)]))
        finally:
            if load.cache_info().currsize:
                load().close()
    first, *others = reports
    tests = tuple(test for lane in others for test in paired_tests(lane, first))
    yield EvalReport(manifest.name, tuple(reports), tests)


def _transcribe(
    load: Callable[[], Stack], manifest: Manifest, results: ResultsFile, seen: set[int]
) -> Iterator[tuple[int, float]]:
    """Fill `results` and `seen` (indices of the manifest's utterances); yields utterances and seconds so far."""
    from ..pipeline import BATCH_SEGMENTS

    done, seconds = 0, 0.0
    for window in manifest.windows():
        missing = [utterance for utterance in window if not results.has(utterance)]
        seen |= {utterance.index for utterance in window}
        done += len(window) - len(missing)
        seconds += sum(u.duration or 0.0 for u in window) - sum(u.duration or 0.0 for u in missing)
        yield done, seconds
        # Like lengths together waste little on padding. The longest first: if memory does not suffice, that shows
        # at once, and the estimate of the time left errs on the safe side.
        missing.sort(key=lambda utterance: (-(utterance.duration or 0.0), utterance.index))
        for at in range(0, len(missing), BATCH_SEGMENTS):
            batch = missing[at : at + BATCH_SEGMENTS]
            results.append(_rows(load(), batch))
            done += len(batch)
            seconds += sum(u.duration or 0.0 for u in batch)
            yield done, seconds


def _rows(stack: Stack, batch: Sequence[Utterance]) -> Iterator[UtteranceResult]:
    """The rows of a batch, those whose audio cannot be read first."""
    from ..run.events import Done

    heard: list[tuple[Utterance, Waveform, float]] = []
    for utterance in batch:
        started = time.perf_counter()
        try:
            wave = utterance.load(stack.rate)
        except AudioError as error:
            yield UtteranceResult(
                utterance.index, utterance.id, utterance.reference, None, 0.0, 0.0, error=error.message
            )
        else:
            heard.append((utterance, wave, time.perf_counter() - started))
    if not heard:
        return
    for event in stack.run([wave for _, wave, _ in heard], audio_seconds=[spent for *_, spent in heard]):
        if isinstance(event, Done):
            utterance, result = heard[event.file][0], event.result
            yield UtteranceResult(
                utterance.index,
                utterance.id,
                utterance.reference,
                result.text,
                result.duration,
                result.total_seconds,
                "; ".join(dict.fromkeys(segment.note for segment in result.segments if segment.note)) or None,
            )

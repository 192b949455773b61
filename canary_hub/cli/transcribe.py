"""`canary-hub transcribe`: files in, transcripts out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..atomic import save
from ..audio.decode import Limits
from ..audio.waveform import printable
from ..errors import HubError
from ..run.formats import FORMATS, PER_FILE, render
from .choices import chosen_stack, hub_of, load_options, plugin_choice, stack_options
from .resume import Partial

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ..audio.waveform import Waveform
    from ..pipeline import Stack
    from ..run.events import Event
    from ..run.result import Result

GROUP_SECONDS = 600.0
"""Files are decoded together until they hold this much audio: enough to fill batches, little to keep."""


@dataclass(eq=False)
class _Input:
    """An audio file on its way to its transcript.

    output: where the transcript goes; None for standard output.
    partial: what is kept of it until the end of the command.
    wave: the audio while it is needed, and the seconds that decoding took.
    """

    file: str
    output: Path | None
    partial: Partial | None
    wave: Waveform | None = None
    seconds: float = 0.0

    @property
    def finished(self) -> Result | None:
        """The result that an earlier run came to."""
        return self.partial.result if self.partial else None

    def length(self, stack: Stack) -> float:
        """Seconds of audio; it is decoded to know, unless an earlier run has finished it. Raises: AudioError."""
        return self.finished.duration if self.finished else self.decoded(stack).seconds

    def decoded(self, stack: Stack) -> Waveform:
        """The audio, decoded once. Raises: AudioError."""
        if self.wave is None:
            started = time.perf_counter()
            self.wave = stack.load_audio(self.file, _limits())
            self.seconds = time.perf_counter() - started
        return self.wave


@click.command()
@click.argument("files", nargs=-1, required=True)
@stack_options
@load_options
@click.option("--format", "format", type=click.Choice(sorted(FORMATS)), default="txt", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Write one file per input here.")
@click.option("--resume", is_flag=True, help="With --output: go on where an interrupted run of the same stack stopped.")
@click.option("--details", type=click.Path(path_type=Path, dir_okay=False), help="Write the injection traces (JSON).")
@click.pass_context
def transcribe(
    ctx: click.Context,
    /,
    files: tuple[str, ...],
    format: str,
    output: Path | None,
    resume: bool,
    details: Path | None,
    **given: Any,
) -> None:
    """Transcribe audio FILES.

    One bad file does not stop the others; the exit code is 1 if any failed. With --output, finished segments are
    kept in hidden files beside the transcripts until the command ends, so that it can be stopped and resumed.
    """
    hub = hub_of(ctx, **plugin_choice(given))
    spec = chosen_stack(hub, given)
    if format in PER_FILE and len(files) > 1 and output is None:
        raise HubError(f"{format} holds one file each.", "Give --output DIR to write one per input.")
    if resume and (output is None or details is not None):
        raise HubError("--resume goes with --output DIR, and without --details.", "Traces are not kept for later.")
    stack = hub.load(spec, dtype=given["dtype"], device=given["device"])
    for warning in stack.warnings:
        click.echo(f"warning: {warning}", err=True)
    identity: dict[str, Any] = {}
    if output is not None and details is None:
        from ..evaluate.identity import identity as identity_of

        identity = identity_of(hub, stack.assembly, given["dtype"] or spec.dtype, given["device"])
    inputs = list(_inputs(files, output, format, identity, resume))
    failed: list[_Input] = []
    results: list[Result] = []
    traces: list[dict[str, Any]] = []
    try:
        for item, outcome in _transcribe_all(stack, inputs, details is not None):
            if isinstance(outcome, HubError):
                failed.append(item)
                click.echo(f"error: {outcome}", err=True)
                continue
            for segment in outcome.segments:
                if segment.note and not segment.note.startswith("silence"):
                    click.echo(f"{outcome.file} {segment.start:.1f}-{segment.end:.1f} s: {segment.note}", err=True)
            if outcome.trace is not None:
                traces.append(outcome.trace.to_json())
            if item.output is None:
                results.append(outcome)
            else:
                save(item.output, render([outcome], format))
                click.echo(str(item.output), err=True)
    except KeyboardInterrupt:
        if not identity:
            if results:
                click.echo(render(results, format), nl=False)
            raise
        click.echo("stopped: what is finished is kept; the same command with --resume goes on from there", err=True)
        ctx.exit(130)
    if details is not None:
        save(details, json.dumps(traces, indent=1))
    if results:
        click.echo(render(results, format), nl=False)
    for item in inputs:
        if item.partial and item not in failed:
            item.partial.delete()
    if failed:
        ctx.exit(1)


def _inputs(
    files: Sequence[str], output: Path | None, format: str, identity: Mapping[str, Any], resume: bool
) -> Iterator[_Input]:
    """The files with the names of their transcripts; files of earlier runs are replaced."""
    taken: set[Path] = set()
    for file in files:
        if output is None:
            yield _Input(file, None, None)
            continue
        stem = Path(printable(Path(file).name)).stem or "audio"
        path, number = output / f"{stem}.{format}", 1
        while path in taken:
            number += 1
            path = output / f"{stem}-{number}.{format}"
        taken.add(path)
        partial = Partial(Path(file), path, identity, resume) if identity else None
        if partial and partial.left_over:
            count = f"{len(partial.segments)} segments"
            click.echo(
                f"{path.stem}: goes on after {count} that are finished"
                if resume
                else f"{path.stem}: starts anew; --resume would go on where an earlier run stopped",
                err=True,
            )
        yield _Input(file, path, partial)


def _limits() -> Limits:
    """Those of the audio's length; the size of a file is a visitor's limit, and holds here only if it is set."""
    limits = Limits.from_env()
    return limits if os.environ.get("CANARY_HUB_MAX_FILE_MB") else replace(limits, max_bytes=2**63)


def _transcribe_all(
    stack: Stack, inputs: Sequence[_Input], details: bool
) -> Iterator[tuple[_Input, Result | HubError]]:
    """Results and errors in the order in which they are ready, with a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    with Progress(
        *Progress.get_default_columns()[:3], TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as progress:
        bar = progress.add_task("transcribing", total=None)
        total = 0.0
        group: list[_Input] = []
        lengths = 0.0
        for item in inputs:
            try:
                length = item.length(stack)
            except HubError as error:
                yield item, error
                continue
            group.append(item)
            lengths += length
            total += length
            if lengths >= GROUP_SECONDS:
                progress.update(bar, total=total)
                yield from _transcribe_group(stack, group, details, progress, bar)
                group, lengths = [], 0.0
        progress.update(bar, total=total)
        yield from _transcribe_group(stack, group, details, progress, bar)


def _transcribe_group(
    stack: Stack, group: Sequence[_Input], details: bool, progress: Progress, bar: TaskID
) -> Iterator[tuple[_Input, Result | HubError]]:
    """Files that share batches. Their audio is let go at the end. Where one of them fails, the rest are run alone.

    What an earlier run has finished is not computed again, but decoded once more if the batches of another file
    need it: the same pieces side by side give the same text.
    """
    from ..run.events import Done, SegmentDone

    if all(item.finished for item in group):
        for item in group:
            if item.finished:
                progress.advance(bar, item.finished.duration)
                yield item, item.finished
        return
    waves = [item.decoded(stack) for item in group]
    seconds = [item.seconds for item in group]
    known = {(i, n): part for i, item in enumerate(group) if item.partial for n, part in item.partial.segments.items()}
    left = list(group)
    failure: HubError | None = None
    for event in _or_failure(stack.run(waves, audio_seconds=seconds, details=details, known=known)):
        if isinstance(event, HubError):
            failure = event
        elif isinstance(event, SegmentDone):
            progress.advance(bar, event.result.end - event.result.start)
            partial = group[event.file].partial
            if partial and (event.file, event.segment) not in known:
                partial.add(event.segment, event.result)
        elif isinstance(event, Done):
            item = group[event.file]
            if item.partial and not item.finished:
                item.partial.finish(event.result)
            left.remove(item)
            yield item, item.finished or event.result
    for item in group:
        item.wave = None
    if failure and len(group) == 1:
        yield group[0], HubError(f"{printable(Path(group[0].file).name)}: {failure.message}", failure.hint)
    elif failure:
        for item in left:
            yield from _transcribe_group(stack, [item], details, progress, bar)


def _or_failure(events: Iterator[Event]) -> Iterator[Event | HubError]:
    """The events of a run, and last what it failed with."""
    try:
        yield from events
    except HubError as error:
        yield error

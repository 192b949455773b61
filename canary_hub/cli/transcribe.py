"""`canary-hub transcribe`: files in, transcripts out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import HubError
from ..formats import FORMATS, render
from .choices import chosen_stack, hub_of, load_options, plugin_choice, stack_options

if TYPE_CHECKING:
    from ..audio import Waveform
    from ..pipeline import Stack
    from ..trace import Result

GROUP_SECONDS = 600.0
"""Files are decoded together until they hold this much audio: enough to fill batches, little to keep."""


@click.command()
@click.argument("files", nargs=-1, required=True)
@stack_options
@load_options
@click.option("--format", "format", type=click.Choice(sorted(FORMATS)), default="txt", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Write one file per input here.")
@click.option("--details", type=click.Path(path_type=Path, dir_okay=False), help="Write the injection traces (JSON).")
@click.pass_context
def transcribe(
    ctx: click.Context, /, files: tuple[str, ...], format: str, output: Path | None, details: Path | None, **given: Any
) -> None:
    """Transcribe audio FILES.

    One bad file does not stop the others; the exit code is 1 if any failed.
    """
    hub = hub_of(ctx, **plugin_choice(given))
    spec = chosen_stack(hub, given)
    if format in ("srt", "vtt") and len(files) > 1 and output is None:
        raise HubError(f"{format} holds one file each.", "Give --output DIR to write one per input.")
    stack = hub.load(spec, dtype=given["dtype"], device=given["device"])
    for warning in stack.warnings:
        click.echo(f"warning: {warning}", err=True)
    failed = 0
    results: list[Result] = []
    traces: list[dict[str, Any]] = []
    taken: set[Path] = set()
    for outcome in _transcribe_all(stack, files, details is not None):
        if isinstance(outcome, HubError):
            failed += 1
            click.echo(f"error: {outcome}", err=True)
            continue
        for segment in outcome.segments:
            if segment.note and not segment.note.startswith("silence"):
                click.echo(f"{outcome.file} {segment.start:.1f}-{segment.end:.1f} s: {segment.note}", err=True)
        if outcome.trace is not None:
            traces.append(outcome.trace.to_json())
        if output is None:
            results.append(outcome)
        else:
            path = _free(output, Path(outcome.file).stem or "audio", format, taken)
            _write(path, render([outcome], format))
            click.echo(str(path), err=True)
    if details is not None:
        _write(details, json.dumps(traces, indent=1))
    if results:
        click.echo(render(results, format), nl=False)
    if failed:
        ctx.exit(1)


def _transcribe_all(stack: Stack, files: Sequence[str], details: bool) -> Iterator[Result | HubError]:
    """Results and errors in the order in which they are ready, with a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    from ..pipeline import Done, SegmentDone

    with Progress(
        *Progress.get_default_columns()[:3], TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as progress:
        bar = progress.add_task("transcribing", total=None)
        total = 0.0
        for group, errors in _groups(stack, files):
            yield from errors
            total += sum(wave.seconds for wave, _ in group)
            progress.update(bar, total=total)
            waves, seconds = [wave for wave, _ in group], [spent for _, spent in group]
            for event in stack.run(waves, audio_seconds=seconds, details=details):
                if isinstance(event, SegmentDone):
                    progress.advance(bar, event.result.end - event.result.start)
                elif isinstance(event, Done):
                    yield event.result


def _groups(stack: Stack, files: Sequence[str]) -> Iterator[tuple[list[tuple[Waveform, float]], list[HubError]]]:
    """Decoded files with the seconds that decoding took, a few at a time, and the errors between."""
    group: list[tuple[Waveform, float]] = []
    errors: list[HubError] = []
    for file in files:
        started = time.perf_counter()
        try:
            group.append((stack.load_audio(file), time.perf_counter() - started))
        except HubError as error:
            errors.append(error)
        if sum(wave.seconds for wave, _ in group) >= GROUP_SECONDS:
            yield group, errors
            group, errors = [], []
    yield group, errors


def _free(folder: Path, stem: str, format: str, taken: set[Path]) -> Path:
    """A name that no other input of this run has; files of earlier runs are replaced."""
    path, number = folder / f"{stem}.{format}", 1
    while path in taken:
        number += 1
        path = folder / f"{stem}-{number}.{format}"
    taken.add(path)
    return path


def _write(path: Path, content: str) -> None:
    """Write beside the final name, then rename: no half file is ever left. Raises: HubError."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(content, "utf-8", newline="")
        os.replace(part, path)
    except OSError as error:
        raise HubError(f"{str(path)!r} cannot be written: {error}.", "Choose another place.") from error

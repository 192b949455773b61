"""`canary-hub compare`: the same audio through two to four lanes, side by side."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..atomic import save
from ..errors import HubError
from ..lanes import Lane, parse_lane
from .choices import hub_of, load_options, plugin_choice, plugin_options

if TYPE_CHECKING:
    from rich.console import Console

    from ..compare import Comparison
    from ..hub import Hub


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="AUDIO...")
@click.option("--lane", "lanes", multiple=True, required=True, metavar="LANE", help="Two to four times; see above.")
@click.option("--reference", "references", multiple=True, metavar="TXT", help="What was said; see above.")
@click.option("--at-once", is_flag=True, help="Run the lanes at once; their times are longer then.")
@click.option("--details", is_flag=True, help="Record the injection traces, with --format json.")
@click.option("--format", "format", type=click.Choice(["md", "json"]), default="md", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
@load_options
@plugin_options
@click.pass_context
def compare(
    ctx: click.Context,
    /,
    files: tuple[str, ...],
    lanes: tuple[str, ...],
    references: tuple[str, ...],
    at_once: bool,
    details: bool,
    format: str,
    output: Path | None,
    **given: Any,
) -> None:
    """Run AUDIO through two to four lanes: what is in common is computed once, what differs is shown.

    A lane is a stack's name, then what differs, all in one argument: --lane nano --lane "nano llm=canary/qwen3-peft
    max_new_tokens=50 dtype=bfloat16 weights.canary=FOLDER". Differences are shown against the first lane.

    Give --reference once per AUDIO, in their order, for error rates: a text file, or the text itself. Or once, a
    folder that holds NAME.txt for every NAME.wav.

    The exit code is 1 if a lane failed or an audio file could not be read.
    """
    from rich.console import Console

    from ..compare import FailedLane, to_json, to_markdown

    if details and format != "json":
        raise click.UsageError("--details are in the JSON form alone: add --format json.")
    chosen = [parse_lane(text) for text in lanes]
    texts = _references(references, files)
    if not os.environ.get("CANARY_HUB_DEBUG"):
        # A lane's failure is printed in one line; CANARY_HUB_DEBUG logs its traceback too.
        logging.getLogger("canary_hub.compare").setLevel(logging.CRITICAL)
    hub = hub_of(ctx, **plugin_choice(given))
    console = Console(stderr=True)
    options = {"details": details, "in_turn": not at_once, **given}
    comparisons: list[Comparison] = []
    failed = False
    for file, text in zip(files, texts, strict=True):
        try:
            comparison = _compared(hub, chosen, file, text, options, console)
        except HubError as error:
            if len(files) == 1:
                raise
            failed = True
            click.echo(f"error: {error}", err=True)
            continue
        comparisons.append(comparison)
        for number, lane in enumerate(comparison.lanes, 1):
            if isinstance(lane, FailedLane):
                failed = True
                message = f"{lane.message}\n{lane.hint}".strip()
                click.echo(f"error: {comparison.file}, lane {number} ({lane.lane}): {message}", err=True)
    if comparisons:
        content = to_json(comparisons) if format == "json" else to_markdown(comparisons)
        if output is None:
            click.echo(content, nl=False)
        else:
            save(output, content)
    if failed:
        ctx.exit(1)


def _compared(
    hub: Hub, lanes: Sequence[Lane], file: str, reference: str | None, options: dict[str, Any], console: Console
) -> Comparison:
    """One file, with a bar per lane on stderr."""
    from rich.markup import escape
    from rich.progress import Progress

    from ..compare import Comparison, LaneEvent, LaneStarted, compare
    from ..run.events import SegmentDone

    with Progress(console=console, transient=True) as progress:
        bars = [
            progress.add_task(escape(f"{Path(file).name}, {number}: {lane}"), total=None, start=False)
            for number, lane in enumerate(lanes, 1)
        ]
        for event in compare(hub, lanes, file, reference, **options):
            if isinstance(event, LaneStarted):
                progress.update(bars[event.lane], total=event.segments)
                progress.start_task(bars[event.lane])
                for warning in event.warnings:
                    click.echo(f"warning: lane {event.lane + 1}: {warning}", err=True)
            elif isinstance(event, LaneEvent) and isinstance(event.event, SegmentDone):
                progress.advance(bars[event.lane])
            elif isinstance(event, Comparison):
                return event
    raise AssertionError("a comparison ends with its result")


def _references(given: Sequence[str], files: Sequence[str]) -> list[str | None]:
    """A text per file. Raises: HubError."""
    if not given:
        return [None] * len(files)
    if len(given) == 1 and os.path.isdir(given[0]):
        return [_read(Path(given[0]) / f"{Path(file).stem}.txt") for file in files]
    if len(given) != len(files):
        raise HubError(
            f"There are {len(given)} references for {len(files)} audio files.",
            "Give --reference once per file, in their order, or once a folder with NAME.txt for every NAME.wav.",
        )
    return [_text(reference) for reference in given]


def _text(reference: str) -> str:
    if os.path.isfile(reference) or reference.lower().endswith(".txt"):
        return _read(Path(reference))
    click.echo(f"--reference is no file, so it is the text itself: {reference!r}", err=True)
    return reference


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise HubError(f"There is no reference {str(path)!r}.", "Check the path, or leave out --reference.") from None
    except (OSError, ValueError) as error:
        raise HubError(f"The reference {str(path)!r} cannot be read: {error}.", "Save it as UTF-8 text.") from error

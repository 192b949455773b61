"""`canary-hub eval`: error rates and speed of stacks over a test set."""

from __future__ import annotations

import json
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..atomic import save
from ..lanes import parse_lane
from ..settings import default_stack
from .choices import hub_of, load_options, plugin_choice, plugin_options

if TYPE_CHECKING:
    from rich.console import Console

    from ..evaluate import EvalReport, Progress

QUIET_SECONDS = 30.0
"""How often progress is printed where stderr is no terminal."""

MAX_ERRORS = 10
"""How many failed utterances are printed on stderr; all are in utterances.csv."""


@click.command("eval")
@click.argument("manifest")
@click.option("--stack", "stacks", multiple=True, metavar="LANE", help="A stack, and what differs; see above.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for results; eval-MANIFEST.")
@click.option("--limit", type=click.IntRange(1), help="Only the first utterances.")
@click.option("--format", "format", type=click.Choice(["table", "md", "json"]), default="table", show_default=True)
@load_options
@plugin_options
@click.pass_context
def eval(
    ctx: click.Context,
    /,
    manifest: str,
    stacks: tuple[str, ...],
    out: Path | None,
    limit: int | None,
    format: str,
    **given: Any,
) -> None:
    """Measure stacks on the test set MANIFEST: word and character error rates, speed, and who is better.

    MANIFEST is a file of JSON lines with audio_filepath, text and perhaps offset and duration (as NeMo's), a .csv or
    .tsv file with such columns, a folder of audio files each with a .txt, or hf:name/config/split, a Hugging Face
    data set.

    Give --stack once per stack: its name, then what differs, all in one argument: --stack nano --stack "nano
    llm=canary/qwen3-peft max_new_tokens=50 dtype=bfloat16 weights.canary=FOLDER".

    Transcripts are written to --out batch by batch. Interrupted, the same command goes on where it stopped; with
    another --stack it adds that one. The exit code is 1 if an audio file could not be read.
    """
    from rich.console import Console

    from ..evaluate import EvalReport, evaluate, open_manifest

    lanes = [parse_lane(text) for text in stacks or (default_stack(),)]
    hub = hub_of(ctx, **plugin_choice(given))
    out = out or Path("eval-" + re.sub(r"\W+", "-", Path(manifest).name if ":" not in manifest else manifest))
    report = None
    with _ProgressBars(Console(stderr=True)) as show_progress:
        for step in evaluate(hub, open_manifest(manifest, limit), lanes, out, **given):
            if isinstance(step, EvalReport):
                report = step
            else:
                show_progress(step)
    assert report is not None
    for name, content in report.files().items():
        save(out / name, content)
    if format == "json":
        click.echo(json.dumps(report.to_json(), indent=2))
    elif format == "md":
        click.echo(report.to_markdown(), nl=False)
    else:
        _show(report)
    _print_failed(report, out)
    if any(lane.failed for lane in report.lanes):
        ctx.exit(1)


class _ProgressBars:
    """Progress on stderr: a bar with the time left on a terminal, else a line now and then."""

    def __init__(self, console: Console) -> None:
        from rich.progress import Progress as Bars
        from rich.progress import TextColumn, TimeRemainingColumn

        self.console = console
        self.bars = Bars(
            *Bars.get_default_columns()[:3],
            TextColumn("{task.fields[done]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=3600.0,  # a batch of a large model on a CPU takes minutes
        )
        self.last = 0.0
        self.lane = ""

    def __enter__(self) -> _ProgressBars:
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bars.stop()
        if kind is KeyboardInterrupt:
            click.echo("Interrupted. The same command goes on where it stopped.", err=True)

    def __call__(self, step: Progress) -> None:
        """Show how far a lane is; audio measures the work better than the number of utterances does."""
        from rich.markup import escape

        known = bool(step.total_seconds)
        at, total = (step.seconds, step.total_seconds) if known else (step.done, step.total)
        done = f"{step.done} of {step.total or '?'} utterances"
        for warning in step.warnings:
            click.echo(f"warning: {warning}", err=True)
        if step.lane != self.lane:
            self.lane, self.last = step.lane, time.monotonic()
            self.task = self.bars.add_task(escape(step.lane), total=total, done=done)
            self.bars.update(self.task, completed=at)
            if step.done:
                click.echo(f"{step.lane}: {done} were there already", err=True)
            return
        self.bars.update(self.task, completed=at, done=done)
        if self.bars.disable and time.monotonic() - self.last > QUIET_SECONDS:
            self.last = time.monotonic()
            left = self.bars.tasks[-1].time_remaining
            about = "" if left is None else f", about {timedelta(seconds=left)} left"
            click.echo(f"{step.lane}: {done}{about}", err=True)


def _show(report: EvalReport) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..evaluate.report import CAPTION

    head, *lines = report.table()
    table = Table(title=Text(report.manifest), title_justify="left", box=box.SIMPLE_HEAD)
    for at, name in enumerate(head):
        table.add_column(Text(name), justify="right" if at else "left")
    for line in lines:
        table.add_row(*map(Text, line))
    console = Console()
    console.print(table)
    for sentence in (*report.sentences(), f"{CAPTION}."):
        console.print(Text(sentence))


def _print_failed(report: EvalReport, out: Path) -> None:
    failed = [(lane.lane, row) for lane in report.lanes for row in lane.failed]
    for lane, row in failed[:MAX_ERRORS]:
        click.echo(f"error: {lane}, {row.id}: {row.error}", err=True)
    if len(failed) > MAX_ERRORS:
        click.echo(f"and {len(failed) - MAX_ERRORS} more errors", err=True)
    click.echo(f"Every utterance is in {out / 'utterances.csv'}.", err=True)

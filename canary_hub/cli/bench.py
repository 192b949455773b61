"""`canary-hub bench`: speed and memory of a stack, also with random weights of full size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import HubError
from .choices import hub_of, plugin_choice, plugin_options

if TYPE_CHECKING:
    from rich.table import Table

    from ..bench import BenchReport


@click.command()
@click.option("--stack", metavar="NAME", help="Which stack, with its own weights; CANARY_HUB_STACK, else nano.")
@click.option("--random-weights", metavar="STACK", help="Which stack, with noise of full size: nothing is downloaded.")
@click.option("--llm", metavar="ID", help="Another LLM backend, such as canary/qwen3-int8.")
@click.option("--agree-with", metavar="ID", help="Count the tokens that equal those of this LLM backend.")
@click.option("--base-llm", type=click.Path(path_type=Path), help="Folder with the LLM's config.json and tokenizer.")
@click.option("--dtype", metavar="DTYPE", help="float32 or bfloat16; the stack's own by default.")
@click.option("--seconds", type=click.FloatRange(0.1, 40.0), default=11.0, show_default=True, help="Of audio.")
@click.option("--tokens", type=click.IntRange(2), default=32, show_default=True, help="Decoding steps.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Equal clips decoded together.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Fresh processes.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write everything here too.")
@plugin_options
@click.pass_context
def bench(ctx: click.Context, /, json_file: Path | None, **given: Any) -> None:
    """Measure import, load, memory and speed on the CPU.

    Every run is a fresh process, after the weights were read into the page cache; the first decoding
    step is the prefill. Random weights are written once, under CANARY_HUB_CACHE or ~/.cache/canary-hub.
    """
    from rich.console import Console

    from .. import bench as module
    from ..settings import default_stack

    stack, random_weights = given.pop("stack"), given.pop("random_weights")
    if stack and random_weights:
        raise HubError("--stack and --random-weights both name a stack.", "Give one of them.")
    hub = hub_of(ctx, **plugin_choice(given))
    report = module.bench(
        hub,
        random_weights or stack or default_stack(),
        random_weights=bool(random_weights),
        progress=lambda message: click.echo(message, err=True),
        **given,
    )
    if json_file is not None:
        report.write(json_file)
    Console().print(_table(report))
    if (agreement := report.agreement) is not None:
        click.echo(f"{agreement.same} of {agreement.of} tokens are those of {agreement.llm}, after the same tokens.")


def _table(report: BenchReport) -> Table:
    from rich.table import Table

    from ..bench import UNITS

    machine = report.machine
    table = Table(
        title=f"{report.stack}{', random weights' if report.random_weights else ''}, {report.dtype}",
        caption=f"{report.batch} x {report.audio_seconds:g} s of audio, {report.positions} prompt positions, "
        f"{report.tokens} tokens. {machine['cpu']}, {' '.join(machine['flags']) or 'no vector extensions known'}; "
        f"{machine['threads']} threads of {machine['cores']} cores; torch {machine['torch']}.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    table.add_column("median", justify="right", style="bold")
    for number in range(len(report.runs)):
        table.add_column(f"run {number + 1}", justify="right")
    for field, title in UNITS.items():
        row = (getattr(measures, field) for measures in (report.median, *report.runs))
        table.add_row(title, *("-" if value is None else f"{value:.4g}" for value in row))
    return table

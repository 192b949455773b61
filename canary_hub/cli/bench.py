"""`canary-hub bench`: speed and memory of a stack, also with random weights of full size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..errors import HubError
from .choices import hub_of, plugin_choice, plugin_options

if TYPE_CHECKING:
    from rich.table import Table

    from ..bench import Report, ServeReport


_OF_SERVE = ("lanes", "visitors", "requests", "queue", "audio")
_OF_RUNS = ("stack", "random_weights", "llm", "agree_with", "base_llm", "dtype", "seconds", "tokens", "batch", "runs")


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
@click.option(
    "--serve", "served", is_flag=True, help="Load-test the page instead: is everybody given their own answer?"
)
@click.option("--lane", "lanes", multiple=True, metavar="LANE", help="With --serve: a stack, and what differs in it.")
@click.option("--visitors", type=click.IntRange(1, 1000), default=50, show_default=True, help="With --serve: at once.")
@click.option("--requests", type=click.IntRange(1), default=20, show_default=True, help="With --serve: of each.")
@click.option("--queue", type=click.IntRange(1), default=64, show_default=True, help="With --serve: how many may wait.")
@click.option(
    "--audio", type=click.Path(path_type=Path, dir_okay=False), help="With --serve: speech to cut clips from."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write everything here too.")
@plugin_options
@click.pass_context
def bench(ctx: click.Context, /, json_file: Path | None, served: bool, **given: Any) -> None:
    """Measure import, load, memory and speed on the CPU.

    Every run is a fresh process, after the weights were read into the page cache; the first decoding
    step is the prefill. Random weights are written once, under CANARY_HUB_CACHE or ~/.cache/canary-hub.

    --serve starts the page as a program of its own. Its visitors ask by the page and by OpenAI's API, all at once;
    some cancel, some hang up, some ask for everything together. The exit code is 1 if any answer was lost or somebody
    else's.
    """
    _refuse_unused(ctx, served)
    load = {name: given.pop(name) for name in _OF_SERVE}
    if served:
        _serve(ctx, json_file, load, plugin_choice(given))
        return
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


def _refuse_unused(ctx: click.Context, served: bool) -> None:
    """Raises: click.UsageError for an option of the other kind of benchmark."""
    other = _OF_RUNS if served else _OF_SERVE
    for option in ctx.command.params:
        if option.name in other and ctx.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} goes {'without' if served else 'with'} --serve.", ctx)


def _serve(ctx: click.Context, json_file: Path | None, load: dict[str, Any], plugins: dict[str, Any]) -> None:
    from rich.console import Console

    from ..bench import bench_serve

    report = bench_serve(
        hub_of(ctx, **plugins),
        progress=lambda message: click.echo(message, err=True),
        **load,
    )
    if json_file is not None:
        report.write(json_file)
    Console().print(_serve_table(report))
    for failure in report.failures:
        click.echo(failure, err=True)
    if not report.holds:
        ctx.exit(1)


def _serve_table(report: ServeReport) -> Table:
    from rich.table import Table

    table = Table(
        title=f"{report.visitors} visitors, {report.requests} requests in {report.seconds:.0f} s",
        caption="; ".join(report.stacks),
        title_justify="left",
        caption_justify="left",
        show_header=False,
    )
    table.add_column("")
    table.add_column("", justify="right", style="bold")
    grown = "-" if report.memory_mib is None else "{:.0f} to {:.0f}".format(*report.memory_mib)
    for title, value in (
        ("given their own answer", report.right),
        ("given another's", report.crossed),
        ("given none", report.lost),
        ("cancelled", report.cancelled),
        ("hung up", report.left),
        ("turned away for a while", report.refused),
        ("of these, without number and time", report.unclear),
        ("answer, median, s", f"{report.p50:.2f}"),
        ("answer, 95 %, s", f"{report.p95:.2f}"),
        ("answer, longest, s", f"{report.longest:.2f}"),
        ("requests per second", f"{report.per_second:.1f}"),
        ("mean wait by visitor, s", "{:.2f} / {:.2f} / {:.2f}".format(*report.waited)),
        ("runs of one other that went first, at most", report.overtaken),
        ("memory, MiB", grown),
        ("MiB per 1,000 requests", "-" if report.slope is None else f"{report.slope:+.1f}"),
        ("components loaded, of", f"{report.loads} / {report.distinct}"),
    ):
        table.add_row(title, str(value))
    return table


def _table(report: Report) -> Table:
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

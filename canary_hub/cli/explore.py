"""`canary-hub explore`: how such a model is made, on any stack."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..explore import EXPLORATIONS
from .choices import chosen_stack, hub_of, load_options, plugin_choice, stack_options

if TYPE_CHECKING:
    from rich.console import Console

    from ..explore.report import Section

Command = TypeVar("Command", bound=Callable[..., Any])

_audio = click.option("--audio", metavar="FILE", help="The clip to hear; spoken digits by default.")


def _output(command: Command) -> Command:
    command = click.option("--plots", type=click.Path(path_type=Path, file_okay=False), help="Write PNG files here.")(
        command
    )
    return click.option("--json", "as_json", is_flag=True, help="Every figure, as JSON.")(command)


@click.group()
def explore() -> None:
    """Explore a speech-LLM: its structure, LoRA, weights, injection, generation.

    Nothing is downloaded: without its weights a stack is shown from its configuration.
    """


def _run(name: str, ctx: click.Context, given: dict[str, Any]) -> None:
    from rich.console import Console

    from ..explore import explore as run
    from ..explore.plots import write
    from ..explore.report import sections

    as_json, plots = given.pop("as_json"), given.pop("plots")
    hub = hub_of(ctx, **plugin_choice(given))
    if name == "weights":
        given["best_fit"] = given["checkpoint"] is not None and given["stack"] is None
    result = run(name, hub, chosen_stack(hub, given), **given)
    shown = sections(result)
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=1, ensure_ascii=False))
    else:
        show(shown, Console())
    if plots is not None:
        for path in write(shown, plots, name):
            click.echo(f"written: {path}", err=True)


def show(sections: Iterable[Section], console: Console) -> None:
    """Print title, sentence and tables of every section; charts are for --plots."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    for section in sections:
        console.print()
        console.print(Text(section.title, style="bold"))
        console.print(Text(section.sentence))
        for content in section.tables:
            headed = any(content.columns)
            table = Table(
                title=content.title or None, title_justify="left", box=box.SIMPLE_HEAD if headed else None,
                show_header=headed, show_edge=False, pad_edge=False,
            )  # fmt: skip
            for column in content.columns:
                table.add_column(column, justify="right" if column in content.right else "left", overflow="fold")
            for row in content.rows:
                table.add_row(*map(Text, row))  # Text: a token such as "[/b]" is no markup
            console.print(table)


@explore.command(short_help=EXPLORATIONS["structure"].sentence)
@stack_options
@load_options
@_output
@click.pass_context
def structure(ctx: click.Context, /, **given: Any) -> None:
    """Show the LLM's modules with shapes, its parameters by part and its KV cache.

    From the configuration alone: no weights are needed or read.
    """
    _run("structure", ctx, given)


_former = copy.copy(structure)
_former.name, _former.hidden, _former.deprecated = "qwen", True, "It is `explore structure`."
explore.add_command(_former)


@explore.command(short_help=EXPLORATIONS["lora"].sentence)
@_audio
@stack_options
@load_options
@_output
@click.pass_context
def lora(ctx: click.Context, /, **given: Any) -> None:
    """Show what LoRA wraps, how large every update is, and the adapter on and off on one clip."""
    _run("lora", ctx, given)


@explore.command(short_help=EXPLORATIONS["weights"].sentence)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Any safetensors file, or a folder with some.")
@stack_options
@_output
@click.pass_context
def weights(ctx: click.Context, /, **given: Any) -> None:
    """Show a checkpoint's tensors and the modules they fill; only the files' headers are read.

    A --checkpoint is compared with the stack given, else with that of the registry which it fits best.
    """
    _run("weights", ctx, given)


@explore.command(short_help=EXPLORATIONS["injection"].sentence)
@_audio
@stack_options
@load_options
@_output
@click.pass_context
def injection(ctx: click.Context, /, **given: Any) -> None:
    """Show how audio embeddings take the placeholder's place, in one row and in a left-padded batch."""
    _run("injection", ctx, given)


@explore.command(short_help=EXPLORATIONS["generation"].sentence)
@_audio
@stack_options
@load_options
@_output
@click.pass_context
def generation(ctx: click.Context, /, **given: Any) -> None:
    """Show the answer token by token, and what limits, drawing and the adapter change."""
    _run("generation", ctx, given)

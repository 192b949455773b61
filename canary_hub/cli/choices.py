"""Options that several commands share: plugins, stack, swapped components, weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

from ..hub import Hub
from ..options import parse_pairs
from ..settings import default_stack
from ..specs import StackSpec, Stage

Command = TypeVar("Command", bound=Callable[..., Any])

_PLUGINS = (
    click.option("--plugins-dir", type=click.Path(path_type=Path), help="Folder of plugins to use uninstalled."),
    click.option("--allow-plugin", multiple=True, metavar="NAME", help="Import only these plugins (and built-ins)."),
    click.option("--block-plugin", multiple=True, metavar="NAME", help="Do not import this plugin."),
)

_STACK = click.option("--stack", metavar="NAME", help="Which stack; CANARY_HUB_STACK, else nano.")

_PARTS = (
    *(
        click.option(f"--{stage.value}", metavar="ID", help=f"Swap the {stage.value.replace('-', ' ')}.")
        for stage in Stage
    ),
    click.option("-o", "--option", "pairs", multiple=True, metavar="KEY=VALUE", help="A component's option."),
    click.option("--weights", multiple=True, metavar="ROLE=DIR", help="Read these weights from a local folder."),
    click.option("--window", type=float, metavar="SECONDS", help="Cut audio into pieces of at most that, at pauses."),
    click.option("--segmenter", metavar="ID", help="What finds those pauses."),
)

_LOAD = (
    click.option("--dtype", metavar="DTYPE", help="float32, bfloat16 or float16; the stack's own by default."),
    click.option("--device", metavar="DEVICE", help="A torch device; a GPU by default where there is one."),
)


def _with(options: tuple[Callable[[Any], Any], ...]) -> Callable[[Command], Command]:
    return lambda command: reduce(lambda decorated, option: option(decorated), reversed(options), command)


plugin_options = _with(_PLUGINS)
part_options = _with((*_PARTS, *_PLUGINS))
stack_options = _with((_STACK, *_PARTS, *_PLUGINS))
load_options = _with(_LOAD)


def hub_of(ctx: click.Context, **given: Any) -> Hub:
    """The hub for the plugin choices given to the command, or to `canary-hub` before it."""
    choice = {key: value for options in (ctx.obj or {}, given) for key, value in options.items() if value}
    return Hub(choice.get("plugins_dir"), allow=choice.get("allow_plugin"), block=choice.get("block_plugin"))


def plugin_choice(given: dict[str, Any]) -> dict[str, Any]:
    """Take the plugin options out of a command's arguments."""
    return {key: given.pop(key, None) for key in ("plugins_dir", "allow_plugin", "block_plugin")}


def chosen_stack(hub: Hub, given: dict[str, Any]) -> StackSpec:
    """The stack that the stack options describe. Raises: UnknownNameError, OptionError."""
    swaps = {stage: given.pop(stage.name.lower()) for stage in Stage}
    return hub.stack(
        given.pop("stack") or default_stack(),
        components={stage: id for stage, id in swaps.items() if id},
        options=parse_pairs(given.pop("pairs")),
        weights=parse_pairs(given.pop("weights")),
        window=given.pop("window"),
        segmenter=given.pop("segmenter"),
    )

"""The command line. `--help` and the listings load neither torch nor transformers nor gradio."""

from __future__ import annotations

import importlib
import os
from typing import Any

import click

from ..errors import HubError, is_out_of_memory
from ..version import __version__
from .choices import hub_of, plugin_options

COMMANDS = {
    "transcribe": "transcribe",
    "compare": "compare",
    "serve": "serve",
    "space": "space",
    "plugins": "listing",
    "components": "listing",
    "stacks": "listing",
    "check": "listing",
    "dump": "dump",
    "bench": "bench",
    "eval": "evaluate",
    "explore": "explore",
    "new-plugin": "new_plugin",
}
"""Command -> the module of this package that defines it, imported when it is needed."""


class _Commands(click.Group):
    """Own commands by name from `COMMANDS`, the rest from plugins; HubErrors become plain messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._take_plugin_commands(ctx)
        return [*COMMANDS, *sorted(self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module = importlib.import_module(f".{COMMANDS[cmd_name]}", __name__)
            command: click.Command = getattr(module, cmd_name.replace("-", "_"))
            return command
        self._take_plugin_commands(ctx)
        return super().get_command(ctx, cmd_name)

    def _take_plugin_commands(self, ctx: click.Context) -> None:
        ctx.obj = ctx.obj or dict(ctx.params)
        added = click.Group("plugins")
        hub_of(ctx).plugins.add_commands(added)
        self.commands = dict(added.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HubError as error:
            if os.environ.get("CANARY_HUB_DEBUG"):
                raise
            raise click.ClickException(str(error)) from error
        except OSError as error:  # no room, not allowed, no temporary folder, where no code was prepared for it
            if os.environ.get("CANARY_HUB_DEBUG") or isinstance(error, BrokenPipeError):
                raise
            raise click.ClickException(f"The operating system refuses: {error}.") from error
        except (MemoryError, RuntimeError) as error:
            if os.environ.get("CANARY_HUB_DEBUG") or not is_out_of_memory(error):
                raise
            raise click.ClickException("There is not enough memory for this.") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="canary-hub")
@plugin_options
@click.pass_context
def main(ctx: click.Context, /, **plugin_choice: Any) -> None:
    """Try, take apart and compare speech-LLMs of the Canary-Qwen kind."""
    ctx.obj = plugin_choice

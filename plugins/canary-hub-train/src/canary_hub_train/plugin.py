"""The plugin's hooks. No heavy import here: `canary-hub --help` reads this module."""

from __future__ import annotations

import click

from canary_hub.hookspecs import hookimpl

from .command import train

CANARY_HUB_API = 2


@hookimpl
def canary_commands(group: click.Group) -> None:
    """Adds `canary-hub train`."""
    group.add_command(train)

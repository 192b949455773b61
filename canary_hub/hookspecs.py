"""The hooks a plugin may implement. Hooks return data; none of them registers anything itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from .specs import ComponentSpec, SegmenterSpec, StackSpec, WeightsRef

if TYPE_CHECKING:
    import click

PROJECT = "canary_hub"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def canary_components() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """The components this plugin adds. Called once; must import nothing heavy."""


@hookspec
def canary_stacks() -> Iterable[StackSpec]:  # type: ignore[empty-body]
    """The stacks this plugin adds; they may use components of other plugins."""


@hookspec
def canary_segmenters() -> Iterable[SegmenterSpec]:  # type: ignore[empty-body]
    """The segmenters this plugin adds: where long audio is cut. Must import nothing heavy."""


@hookspec(firstresult=True)
def canary_resolve_weights(ref: WeightsRef) -> Path | None:
    """A local folder with the files of `ref` (an offline copy, a mirror), or None to pass."""


@hookspec
def canary_commands(group: click.Group) -> None:
    """Add commands to the `canary-hub` command line. Import heavy things inside the command."""

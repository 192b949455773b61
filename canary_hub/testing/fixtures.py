"""Fixtures for plugin tests, and the hub behind them: built-ins, the fakes and what is under test, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ..hub import Hub

_FAKES = "from canary_hub.testing.fakes import canary_components, canary_stacks\n"


def hub_with(folder: Path, plugin: str = "") -> Hub:
    """A hub of the built-ins, the fakes and one plugin.

    Args:
        folder: an empty folder, used as the plugins folder.
        plugin: import path of the module with the hooks, such as "canary_hub_mine.plugin".
    """
    (folder / "fakes.py").write_text(_FAKES, "utf-8")
    if plugin:
        (folder / "under-test").mkdir()
        (folder / "under-test" / "pyproject.toml").write_text(
            f'[project]\nname = "under-test"\n[project.entry-points.canary_hub]\nunder_test = "{plugin}"\n', "utf-8"
        )
    return Hub(folder, allow=("fakes", "under_test"))


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """A hub of the built-ins and the fakes: `hub.load("fake", components={Stage.ENCODER: ...})`."""
    return hub_with(tmp_path_factory.mktemp("plugins"))


@pytest.fixture
def tmp_plugin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Hub]:
    """A function: the source of a plugin of one file -> a hub of the built-ins, the fakes and that plugin."""

    def made(source: str) -> Hub:
        folder = tmp_path_factory.mktemp("plugins")
        (folder / "under_test.py").write_text(source, "utf-8")
        return hub_with(folder)

    return made

"""The command line: light to import, and clear about what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from canary_hub_train import command, plugin, tts
from click.testing import CliRunner

from canary_hub.errors import HubError


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, click\n"
        "from click.testing import CliRunner\n"
        "from canary_hub_train import plugin\n"
        "group = click.Group('canary-hub'); plugin.canary_commands(group)\n"
        "result = CliRunner().invoke(group, ['train', 'nano', '--help'])\n"
        "assert result.exit_code == 0 and '--minutes' in result.output, result.output\n"
        "print([m for m in ('torch', 'transformers', 'librosa', 'gradio', 'jiwer') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # the plugin need not be installed
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"


def test_the_hook_adds_its_commands() -> None:
    group = click.Group()
    plugin.canary_commands(group)
    added = group.commands["train"]
    assert isinstance(added, click.Group)
    assert set(added.commands) == {"nano", "mini", "evaluate"}


def test_missing_recordings_are_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(command.DATA_ENV, raising=False)
    monkeypatch.setattr(tts, "check_programs", lambda: None)
    result = CliRunner().invoke(command.train, ["nano", "--small", "--state", str(tmp_path)])
    assert isinstance(result.exception, HubError)
    assert "Free Spoken Digit Dataset" in str(result.exception)


def test_missing_programs_are_named_as_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tts.shutil, "which", lambda _: None)
    with pytest.raises(HubError, match="apt-get install espeak-ng flite festival"):
        tts.check_programs()


def test_data_is_found_in_the_folder_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(command.DATA_ENV, str(tmp_path))
    assert command.find_data(None, "fsdd.tar") is None
    (tmp_path / "fsdd.tar").touch()
    assert command.find_data(None, "fsdd.tar") == tmp_path / "fsdd.tar"
    with pytest.raises(HubError):
        command.find_data(tmp_path / "other.tar", "fsdd.tar")

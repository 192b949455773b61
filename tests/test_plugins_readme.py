"""The plugin author's tutorial: its code blocks run in their order, and every hook is in it."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
from conftest import ORACLE, ROOT

from canary_hub import Hub, hookspecs

TUTORIAL = (ROOT / "plugins" / "README.md").read_text("utf-8")
PLUGIN = Path("canary-hub-loudness/src/canary_hub_loudness/plugin.py")


def test_the_tutorial_runs_from_an_empty_folder(tmp_path: Path) -> None:
    shutil.copy(ORACLE / "audio" / "slice1p3.wav", tmp_path / "speech.wav")
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    blocks = re.findall(r"^```(bash|python)\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in blocks] == ["bash", "bash", "python", "bash", "bash"]
    shown = ""
    for language, code in blocks:
        if language == "python":
            (tmp_path / PLUGIN).write_text(code)
            continue
        done = subprocess.run(
            ["bash", "-ec", code], cwd=tmp_path, env=environment, capture_output=True, text=True, errors="replace"
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        shown += done.stdout + done.stderr
    assert "loudness/encoder" in shown
    assert "not trained together" in shown
    assert "the five parts fit together" in shown
    assert " passed" in shown
    named = re.findall(r"`(canary-hub-loudness/[^`]+\.\w+)`", TUTORIAL)
    assert named
    assert all((tmp_path / path).is_file() for path in named)


HOOKS = {name: value for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")}


def test_every_hook_is_in_the_tutorial() -> None:
    assert len(HOOKS) >= 4
    assert set(re.findall(r"^\| `(canary_\w+)\(", TUTORIAL, re.MULTILINE)) == set(HOOKS)


def test_every_hook_is_called(tmp_path: Path) -> None:
    implementations = (
        f"@hookimpl\ndef {name}{inspect.signature(hook)}:\n    called.add({name!r})\n"
        f"    return {'[]' if 'Iterable' in str(inspect.signature(hook).return_annotation) else 'None'}\n"
        for name, hook in HOOKS.items()
    )
    heading = "from __future__ import annotations\nfrom canary_hub.hookspecs import hookimpl\ncalled = set()\n"
    (tmp_path / "all_hooks.py").write_text(heading + "".join(implementations))
    hub = Hub(tmp_path)
    assert not any(checkpoint.available for checkpoint in hub.assemble("canary-qwen-2.5b").checkpoints)
    hub.plugins.add_commands(click.Group())
    assert sys.modules["canary_hub_plugin_all_hooks"].called == set(HOOKS)

"""The README's own code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from api_server import served
from click.testing import CliRunner
from conftest import ORACLE, ROOT

from canary_hub.cli import COMMANDS, main

README = (ROOT / "README.md").read_text("utf-8")
SPEECH = ORACLE / "audio" / "slice1p3.wav"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_plugin_of_the_readme_runs_on_nano(tmp_path: Path) -> None:
    (code,) = [block for block in blocks("python") if "hookimpl" in block]
    (tmp_path / "mine.py").write_text(code)
    arguments = [
        "transcribe",
        str(SPEECH),
        "--plugins-dir",
        str(tmp_path),
        "--encoder",
        "my/every-8th",
        "--stack",
        "nano",
    ]
    result = CliRunner().invoke(main, [*arguments, "-o", "max_new_tokens=5"])
    assert result.exit_code == 0, result.output
    assert "not trained together" in result.stderr


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch) -> None:
    (code,) = [block for block in blocks("python") if "stack.transcribe" in block]
    (tmp_path / "speech.wav").write_bytes(SPEECH.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def test_the_client_of_the_readme_gets_answers(tmp_path: Path, monkeypatch) -> None:
    (code,) = [block for block in blocks("python") if "gradio_client" in block]
    (tmp_path / "talk.wav").write_bytes(SPEECH.read_bytes())
    monkeypatch.chdir(tmp_path)
    with served() as url:
        exec(compile(code.replace("http://127.0.0.1:7860", url), "README.md", "exec"), {})


def test_every_command_is_in_the_readme_and_the_other_way_round() -> None:
    named = set(re.findall(r"^canary-hub ([\w-]+)", README, re.MULTILINE))
    assert named == {*COMMANDS, "train"}


def test_every_setting_is_in_the_readme() -> None:
    used = set()
    for path in (ROOT / "canary_hub").rglob("*.py"):
        used |= set(re.findall(r"CANARY_HUB_[A-Z_]+[A-Z]", path.read_text("utf-8")))
    used.discard("CANARY_HUB_API")  # what a plugin states, no setting
    missing = sorted(name for name in used if name not in README)
    assert not missing


DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "plugins" / "README.md", *ROOT.glob("docs/*.md")]
DOCUMENTS += [*ROOT.glob("plugins/*/README.md"), *ROOT.glob("spaces/*/README.md")]
NOT_OURS = {"plugins/mine.py", "subtitles/", "out/", "file/", "openvino/"}  # the reader makes it; a route, a namespace


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_in_the_documents_exists(document: Path) -> None:
    """Paths from the repository's root or the document's folder; file.py and folder/ alone may lie anywhere."""
    names = set(re.findall(r"(?<![\w./:~$-])[\w.-]+(?:/[\w.-]+)*/?(?!\*)", document.read_text("utf-8"))) - NOT_OURS
    top = {path.name for path in ROOT.iterdir()}
    paths = {name for name in names if "/" in name.rstrip("/") and name.split("/")[0] in top}
    gone = {
        name for name in paths if not any((folder / name.rstrip(".")).exists() for folder in (ROOT, document.parent))
    }
    inside = [path for folder in ("canary_hub", "plugins", "spaces", "tests") for path in (ROOT / folder).rglob("*")]
    known = {path.name + "/" * path.is_dir() for path in [*ROOT.iterdir(), *inside]}
    gone |= {name for name in names - paths if re.fullmatch(r"\w+(\.py|/)", name)} - known
    assert sorted(gone) == []

"""Spaces: their folders fit the code, staging takes what is needed, pushing survives what the Hub answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from click.testing import CliRunner, Result
from conftest import ROOT
from hub_server import ME, TOKEN, HubServer, Space
from packaging.requirements import Requirement

from canary_hub import Hub
from canary_hub.cli import main
from canary_hub.errors import HubError, OptionError
from canary_hub.models.canary_qwen.checkpoint import PUBLISHED, PUBLISHED_LLM
from canary_hub.settings import read_settings
from canary_hub.space import stage
from canary_hub.specs import Stage

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SPACES = [ROOT / "spaces" / "cpu", ROOT / "spaces" / "zerogpu"]
ZEROGPU_TORCH = ("2.8.0", "2.9.1", "2.10.0", "2.11.0")
ZEROGPU_PYTHON = ("3.10.13", "3.12.12")

spaces_of_the_repo = pytest.mark.parametrize("source", SPACES, ids=lambda path: path.name)


# The folders


def requirements(source: Path) -> dict[str, Requirement]:
    lines = (source / "requirements.txt").read_text("utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "--"))]
    return {requirement.name: requirement for requirement in found}


@spaces_of_the_repo
def test_front_matter_says_what_the_hub_wants(source):
    card = huggingface_hub.metadata_load(source / "README.md")
    assert (card["sdk"], card["app_file"]) == ("gradio", "app.py")
    assert card["models"] == [PUBLISHED.repo, PUBLISHED_LLM.repo]
    assert card["preload_from_hub"] == [
        f"{PUBLISHED.repo} config.json,model.safetensors {PUBLISHED.revision}",
        f"{PUBLISHED_LLM.repo} config.json,{','.join(PUBLISHED_LLM.files)} {PUBLISHED_LLM.revision}",
    ]
    assert card["suggested_hardware"] in list(huggingface_hub.SpaceHardware)
    assert isinstance(card["python_version"], str)
    assert len(card["short_description"]) <= 60
    assert re.fullmatch(r"\d+[mh]", card["startup_duration_timeout"])
    assert {card["colorFrom"], card["colorTo"]} <= {
        "red",
        "yellow",
        "green",
        "blue",
        "indigo",
        "purple",
        "pink",
        "gray",
    }
    assert (source / "packages.txt").read_text("utf-8").split() == ["ffmpeg"]


@spaces_of_the_repo
def test_requirements_are_those_of_the_package(source):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = {need.name: need for need in map(Requirement, project["dependencies"]) if not need.marker}
    listed = requirements(source)
    assert set(listed) == set(needed) - {"gradio"}  # the Space brings that
    assert needed["gradio"].specifier.contains(huggingface_hub.metadata_load(source / "README.md")["sdk_version"])
    (pin,) = listed["torch"].specifier
    assert needed["torch"].specifier.contains(pin.version)
    assert all(listed[name].specifier == needed[name].specifier for name in set(listed) - {"torch"})


def test_zerogpu_has_this_torch_and_python():
    source = ROOT / "spaces" / "zerogpu"
    (pin,) = requirements(source)["torch"].specifier
    assert pin.version in ZEROGPU_TORCH
    assert huggingface_hub.metadata_load(source / "README.md")["python_version"] in ZEROGPU_PYTHON


def test_the_int8_stack_of_the_cpu_space_is_the_published_one_with_another_llm():
    registry = Hub(ROOT / "spaces" / "cpu" / "plugins", allow=["canary_qwen_int8"]).registry
    stack, published = registry.stack("canary-qwen-2.5b-int8"), registry.stack("canary-qwen-2.5b")
    assert stack.weights == published.weights
    assert stack.components == {**published.components, Stage.LLM: "canary/qwen3-int8"}


# Settings


def test_settings_are_read_and_the_environment_wins(tmp_path, monkeypatch):
    (tmp_path / "space.env").write_text("# a comment\n\nCANARY_HUB_QUEUE=20\nCANARY_HUB_STACK=nano\n")
    monkeypatch.setattr(os, "environ", {"CANARY_HUB_STACK": "other"})
    read_settings(tmp_path)
    assert os.environ == {"CANARY_HUB_STACK": "other", "CANARY_HUB_QUEUE": "20"}
    (tmp_path / "space.env").write_text("just words\n")
    with pytest.raises(OptionError, match="just words"):
        read_settings(tmp_path)


# Staging


@spaces_of_the_repo
def test_staged_is_what_the_space_needs_and_nothing_else(source, tmp_path):
    staged = stage(source, tmp_path / "out")
    tops = {name.partition("/")[0] for name in staged.files}
    assert tops <= {"app.py", "canary_hub", "plugins", "README.md", "requirements.txt", "packages.txt", "space.env"}
    assert {"app.py", "canary_hub/models/nano/model.safetensors", "canary_hub/ui/templates/page/heading.html"} <= set(
        staged.files
    )
    parts = {part for name in staged.files for part in name.split("/")}
    assert not parts & {"tests", "testing", "spaces", "__pycache__", "canary-hub-train"}
    assert not any(name.endswith(".pyc") or "/." in f"/{name}" for name in staged.files)
    on_disk = {path.relative_to(staged.folder).as_posix() for path in staged.folder.rglob("*") if path.is_file()}
    assert on_disk == set(staged.files)
    assert staged.nbytes < 30e6


def plugin_folder(root: Path) -> Path:
    folder = root / "my-plugin"
    for name in ("src/my_plugin", "tests", ".git", "src/my_plugin.egg-info"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file.py").write_text("")
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "my-plugin"\nversion = "1"\n'
        'dependencies = ["canary-hub>=0.1", "unidecode>=1.3", "scipy>=1.11"]\n'
        '[project.entry-points.canary_hub]\nmy = "my_plugin"\n'
    )
    return folder


def test_plugins_go_along_with_what_they_need(tmp_path):
    (tmp_path / "single.py").write_text("")
    staged = stage(SPACES[1], tmp_path / "out", [plugin_folder(tmp_path), tmp_path / "single.py"])
    taken = {name for name in staged.files if name.startswith("plugins/")}
    assert taken == {"plugins/single.py", "plugins/my-plugin/pyproject.toml", "plugins/my-plugin/src/my_plugin/file.py"}
    lines = (staged.folder / "requirements.txt").read_text("utf-8").splitlines()
    assert lines.count("unidecode>=1.3") == lines.count("scipy>=1.11") == 1
    assert not any(line.startswith("canary") for line in lines)
    assert (staged.folder / "space.env").read_text("utf-8").splitlines()[-1] == "CANARY_HUB_PLUGINS_DIR=plugins"


def test_what_cannot_be_staged_is_said_and_leaves_nothing(tmp_path):
    with pytest.raises(HubError, match=r"no README\.md"):
        stage(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(HubError, match="no plugin"):
        stage(SPACES[0], tmp_path / "out", [tmp_path])
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("kept")
    with pytest.raises(HubError, match="not an empty folder"):
        stage(SPACES[0], tmp_path / "full")
    assert (tmp_path / "full" / "precious.txt").exists()
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "requirements.txt").write_text("")
    for head in ("---\nsdk: docker\n---\n", "---\nsdk: [\n---\n", "plain"):
        (tmp_path / "docker" / "README.md").write_text(head)
        with pytest.raises(HubError, match="front matter"):
            stage(tmp_path / "docker", tmp_path / "out")


# Pushing


@pytest.fixture
def hub_server(monkeypatch) -> Iterator[HubServer]:
    server = HubServer()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)  # Xet's own protocol is not imitated
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the retries of huggingface_hub
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def source(tmp_path) -> Path:
    """A Space's folder to change."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in SPACES[0].iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def push(source: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["space", "push", str(source), *arguments])


def staged_files(source: Path, out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in stage(source, out).files}


def test_push_creates_a_space_with_everything(hub_server, source, tmp_path):
    result = push(source, "--repo", f"{ME}/demo", "--private", "--hardware", "zero-a10g", "--secret", "KEY=a=b")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"{hub_server.url}/spaces/{ME}/demo"
    assert "a=b" not in result.output
    space = hub_server.spaces[f"{ME}/demo"]
    assert space.private
    assert (space.hardware, space.secrets, space.commits) == ("zero-a10g", {"KEY": "a=b"}, 1)
    del space.files[".gitattributes"]
    assert space.files == staged_files(source, tmp_path / "out")


def test_a_second_push_sends_nothing_and_a_third_what_changed(hub_server, source):
    assert push(source, "--repo", "demo").exit_code == 0
    space = hub_server.spaces[f"{ME}/demo"]
    blobs = [path for path in hub_server.sent if path.startswith("/blobs/")]
    assert len(blobs) == 1
    assert push(source, "--repo", "demo").exit_code == 0
    assert space.commits == 1
    (source / "packages.txt").unlink()
    (source / "new.txt").write_text("new")
    result = push(source, "--repo", "demo", "--private", "--hardware", "zero-a10g")
    assert "Deleting 1" in result.output
    assert "packages.txt" not in space.files
    assert space.files["new.txt"] == b"new"
    assert {".gitattributes", "app.py"} <= set(space.files)
    assert (space.commits, space.private, space.hardware) == (2, True, "zero-a10g")
    assert [path for path in hub_server.sent if path.startswith("/blobs/")] == blobs


@pytest.mark.parametrize("where", ["/commit/", "/blobs/"])
@pytest.mark.parametrize("how", ["fail", "hang up"])
def test_a_failure_in_the_middle_leaves_the_space_and_a_repeat_completes_it(hub_server, source, tmp_path, where, how):
    hub_server.fail = {where: (500, "Internal Error")} if how == "fail" else {}
    hub_server.hang_up = where if how == "hang up" else ""
    result = push(source, "--repo", "demo")
    assert result.exit_code == 1
    assert "Run the same command again" in result.output
    assert "Traceback" not in result.output
    space = hub_server.spaces[f"{ME}/demo"]
    assert set(space.files) == {".gitattributes", "README.md"}
    hub_server.fail, hub_server.hang_up, hub_server.sent = {}, "", []
    assert push(source, "--repo", "demo").exit_code == 0
    del space.files[".gitattributes"]
    assert space.files == staged_files(source, tmp_path / "out")
    assert any("/blobs/" in path for path in hub_server.sent) == (where == "/blobs/")


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    for word in words:
        assert word in result.output


def test_a_missing_a_wrong_and_a_weak_token(hub_server, source, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    refused(push(source, "--repo", "demo"), "no Hugging Face token", "settings/tokens", "hf auth login")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_wrong")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused(push(source, "--repo", "demo"), "does not accept your token")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub_server.role = "read"
    refused(push(source, "--repo", "demo"), "may only read")
    assert not hub_server.spaces


def test_names_that_are_not_yours_or_taken(hub_server, source):
    refused(push(source, "--repo", "bob/demo"), 'the namespace "bob"', f"push to {ME}/NAME")
    other = hub_server.spaces[f"{ME}/cats"] = Space(files={"README.md": b"", "app.py": b"cats"})
    refused(push(source, "--repo", "cats"), f"The name {ME}/cats is taken", "another --repo")
    assert other.files["app.py"] == b"cats"
    hub_server.spaces["bob/copy"] = Space(files={"canary_hub/__init__.py": b""})
    refused(push(source, "--repo", "bob/copy"), "write access")
    hub_server.spaces["bob/secret"] = Space(private=True)
    refused(push(source, "--repo", "bob/secret"), "already created", "another --repo")
    refused(push(source, "--repo", "a/b/c"), "no name for a Space")


def test_a_plan_that_does_not_allow_the_hardware(hub_server, source):
    hub_server.plan = ("cpu-basic",)
    refused(push(source, "--repo", "demo", "--hardware", "zero-a10g"), "plan does not allow hardware zero-a10g", "PRO")
    assert not hub_server.spaces
    assert push(source, "--repo", "demo").exit_code == 0
    refused(push(source, "--repo", "demo", "--hardware", "zero-a10g"), "plan does not allow hardware zero-a10g")
    hub_server.plan = ()
    refused(push(source, "--repo", "other"), "plan does not allow a Gradio Space", "pricing")


def test_a_dry_run_asks_nobody(hub_server, source):
    result = push(source, "--repo", "demo", "--dry-run", "--secret", "KEY=hidden", "--hardware", "zero-a10g")
    assert result.exit_code == 0
    assert "canary_hub/models/nano/model.safetensors" in result.output
    assert "KEY" in result.output
    assert "hidden" not in result.output
    assert "zero-a10g" in result.output
    assert not hub_server.sent
    assert not hub_server.spaces


def test_push_goes_where_hf_endpoint_says(hub_server, source):
    environment = {**os.environ, "HF_ENDPOINT": hub_server.url, "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "canary_hub.cli", "space", "push", str(source), "--repo", "demo"],
        env=environment, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert hub_server.spaces[f"{ME}/demo"].commits == 1

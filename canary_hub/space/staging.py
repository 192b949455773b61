"""Staging: copy exactly what a Space needs into one folder."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import HubError
from ..settings import SPACE_FILE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLUGINS = "plugins"
NEEDED = ("README.md", "requirements.txt")

LEFT_OUT = (".*", "__pycache__", "*.pyc", "*.egg-info", "*~", "build", "dist", "tests")
"""Names, at any depth, that no Space needs."""
LEFT_OUT_OF_PACKAGE = ("testing",)
"""Folders of canary_hub itself that only serve plugin authors."""
PROVIDED = ("canary-hub", "gradio", "spaces")
"""Requirements of a plugin that every Space has already."""


@dataclass(frozen=True)
class Staged:
    """A staged folder: its files by path relative to it, with their bytes, and the README's front matter."""

    folder: Path
    files: dict[str, int]
    card: dict[str, Any]

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


def stage(source: Path, out: Path, plugins: Iterable[Path] = ()) -> Staged:
    """Make `out` what the Space `source` needs: app.py, the package canary_hub, the plugins, the Space's own files.

    Args:
        source: a folder with README.md (front matter with `sdk: gradio`), requirements.txt and, if wanted,
            packages.txt, space.env, plugins/ and an app.py of its own.
        out: a new or an empty folder.
        plugins: plugin files, or folders of distributions.

    Raises: HubError when something is missing, or `out` holds something.
    """
    card, out = front_matter(source), out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HubError(
            f"{str(out)!r} is not an empty folder.", "Name a new one: what a Space does not need is not mixed in."
        )
    package = Path(__file__).resolve().parents[1]
    app = package.parent / "app.py"
    if not app.is_file() and not (source / "app.py").is_file():
        raise HubError(f"There is no app.py beside {str(package)!r}.", "Stage a Space from a checkout of canary_hub.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside, then renamed: half a Space is never met, and not in the way of the next attempt.
        with TemporaryDirectory(prefix=f".{out.name}.", suffix=".part", dir=out.parent) as part:
            staged = Path(part) / out.name
            staged.mkdir()
            if app.is_file():
                shutil.copy(app, staged)
            _copy(package, staged / package.name, LEFT_OUT + LEFT_OUT_OF_PACKAGE)
            _copy(source, staged)
            for plugin in plugins:
                _add_plugin(plugin, staged)
            if out.exists():
                out.rmdir()
            staged.rename(out)
    except OSError as error:
        raise HubError(f"{str(source)!r} cannot be staged in {str(out)!r}: {error}.", "Check both folders.") from error
    return Staged(out, {name: (out / name).stat().st_size for name in sorted(_files(out))}, card)


def front_matter(source: Path) -> dict[str, Any]:
    """What the README of a Space says to Hugging Face. Raises: HubError when it is no Gradio Space."""
    for name in NEEDED:
        if not (source / name).is_file():
            raise HubError(f"{str(source)!r} has no {name}, so it is no Space.", "Try spaces/cpu or spaces/zerogpu.")
    from huggingface_hub import metadata_load
    from yaml import YAMLError  # type: ignore[import-untyped, unused-ignore]

    try:
        card = metadata_load(source / "README.md")
    except YAMLError as error:
        raise HubError(
            f"The front matter of {str(source / 'README.md')!r} cannot be read: {error}.", "Mend it."
        ) from error
    if card is None or card.get("sdk") != "gradio":
        raise HubError(
            f"{str(source / 'README.md')!r} does not begin with the front matter of a Gradio Space.",
            "It begins with a line ---, then title, sdk: gradio, sdk_version, app_file, and again ---.",
        )
    return card


def _add_plugin(plugin: Path, out: Path) -> None:
    """Copy a plugin, say in space.env where plugins are, and in requirements.txt what this one needs."""
    target = out / PLUGINS / plugin.resolve().name
    if target.exists():
        raise HubError(f"There are two plugins named {target.name!r}.", "Rename one.")
    needs: list[str] = []
    if plugin.is_file() and plugin.suffix == ".py":
        target.parent.mkdir(exist_ok=True)
        shutil.copy(plugin, target)
    elif (plugin / "pyproject.toml").is_file():
        needs = _requirements(plugin / "pyproject.toml")
        _copy(plugin, target)
    else:
        raise HubError(
            f"{str(plugin)!r} is no plugin.", "Name a .py file, or the folder with a distribution's pyproject.toml."
        )
    _append_once(out / SPACE_FILE, f"CANARY_HUB_PLUGINS_DIR={PLUGINS}")
    for need in needs:
        _append_once(out / "requirements.txt", need)


def _requirements(pyproject: Path) -> list[str]:
    try:
        project = tomllib.loads(pyproject.read_text("utf-8")).get("project", {})
        needs = [str(need) for need in project.get("dependencies", [])]
    except (ValueError, AttributeError, TypeError) as error:
        raise HubError(f"{str(pyproject)!r} cannot be read: {error}.", "Mend it.") from error
    return [need for need in needs if re.split(r"[^\w.-]", re.sub(r"[-_.]+", "-", need))[0].lower() not in PROVIDED]


def _append_once(file: Path, line: str) -> None:
    text = file.read_text("utf-8") if file.exists() else ""
    if line not in text.splitlines():
        file.write_text(f"{text.rstrip()}\n{line}\n".lstrip(), "utf-8")


def _copy(source: Path, out: Path, left_out: tuple[str, ...] = LEFT_OUT) -> None:
    def ignore(folder: str, names: list[str]) -> Iterable[str]:
        return [name for name in names if any(fnmatch(name, pattern) for pattern in left_out)]

    shutil.copytree(source, out, ignore=ignore, dirs_exist_ok=True)


def _files(folder: Path) -> Iterator[str]:
    for root, _, names in os.walk(folder):
        for name in names:
            yield (Path(root) / name).relative_to(folder).as_posix()

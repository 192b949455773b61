"""`canary-hub new-plugin`: a plugin distribution to start from, with a component that works and its test."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any

import click

from ..errors import OptionError
from ..specs import Stage
from .choices import hub_of, plugin_options

_PACKAGE = Path(__file__).parents[1]
_TEMPLATES = _PACKAGE / "cli" / "templates"
_FAKES = _PACKAGE / "testing" / "fakes"
_PREFIX = "canary-hub-"


@click.command("new-plugin")
@click.argument("name")
@click.option("--stage", required=True, type=click.Choice([stage.value for stage in Stage]), help="What it implements.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=".", help="Where its folder is made; here."
)
@plugin_options
@click.pass_context
def new_plugin(ctx: click.Context, /, name: str, stage: str, out: Path, **given: Any) -> None:
    """Write a plugin distribution NAME with one component, which works as it is."""
    namespace = name.removeprefix(_PREFIX)
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", namespace):
        raise OptionError(f"{name!r} makes no plugin's name.", "Letters, digits and dashes: my-encoder")
    taken = {id.partition("/")[0] for id in hub_of(ctx, **given).registry.components}
    if namespace in taken | {"fake"}:
        raise OptionError(f"There are components of the namespace {namespace!r} already.", "Choose another name.")
    folder = out / f"{_PREFIX}{namespace}"
    if folder.exists():
        raise OptionError(f"{str(folder)!r} exists already.", "Choose another name, or another folder with --out.")
    files = plugin_files(namespace, Stage(stage))
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", suffix=".part", dir=out) as part:  # half a plugin is never met
            for path, text in files.items():
                (Path(part) / folder.name / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(part) / folder.name / path).write_text(text, "utf-8")
            (Path(part) / folder.name).rename(folder)
    except OSError as error:
        raise OptionError(
            f"{str(folder)!r} cannot be written: {error}.", "Choose another folder with --out."
        ) from error
    click.echo(f"{namespace}/{stage} in {folder}: {', '.join(files)}")
    click.echo(f'Next: cd {folder} && pip install -e ".[test]" && pytest')


def plugin_files(namespace: str, stage: Stage) -> dict[str, str]:
    """The files of a new distribution: path -> text. Its component is the fake of that stage under its own name."""
    id, package = f"{namespace}/{stage.value}", f"canary_hub_{namespace.replace('-', '_')}"
    words = {
        "distribution": f"{_PREFIX}{namespace}",
        "entry": namespace.replace("-", "_"),
        "package": package,
        "stage": stage.value,
        "id": id,
        "conformance": f"{_class_name(stage)}Conformance",
    }

    def filled(template: str) -> str:
        return Template((_TEMPLATES / template).read_text("utf-8")).substitute(words)

    source = (_FAKES / f"{stage.name.lower()}.py").read_text("utf-8")
    return {
        "pyproject.toml": filled("pyproject.toml.txt"),
        "README.md": filled("README.md.txt"),
        f"src/{package}/__init__.py": f'"""Component {id} of canary_hub."""\n',
        f"src/{package}/plugin.py": source.replace(f"fake/{stage.value}", id),
        f"tests/test_{package.removeprefix('canary_hub_')}.py": filled("test.py.txt"),
    }


def _class_name(stage: Stage) -> str:
    """As `canary_hub.testing` writes it."""
    return "LLM" if stage is Stage.LLM else stage.value.title().replace("-", "")

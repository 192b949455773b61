"""`canary-hub space`: put the page on a Hugging Face Space."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from ..errors import OptionError
from ..space import Staged, push, stage

_SOURCE = click.argument("source", type=click.Path(path_type=Path))
_PLUGIN = click.option(
    "--plugin", "plugins", type=click.Path(path_type=Path), multiple=True, help="A plugin to take along: .py or folder."
)


@click.group()
def space() -> None:
    """Put the page on a Hugging Face Space."""


@space.command()
@_SOURCE
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new or an empty folder.")
@_PLUGIN
def build(source: Path, out: Path, plugins: tuple[Path, ...]) -> None:
    """Stage what the Space SOURCE needs, such as spaces/cpu, in a folder."""
    staged = stage(source, out, plugins)
    click.echo(f"{len(staged.files)} files, {staged.nbytes / 1e6:.1f} MB in {out}")


@space.command("push")
@_SOURCE
@click.option("--repo", required=True, metavar="USER/NAME", help="The Space to create or update.")
@click.option("--private", is_flag=True, help="Only you can open it.")
@click.option("--hardware", metavar="NAME", help="Such as zero-a10g; as it is, or cpu-basic, by default.")
@click.option("--secret", "secrets", multiple=True, metavar="NAME=VALUE", help="A secret to set.")
@_PLUGIN
@click.option("--dry-run", is_flag=True, help="Print what would go, and ask nobody.")
def push_(
    source: Path,
    repo: str,
    private: bool,
    hardware: str | None,
    secrets: tuple[str, ...],
    plugins: tuple[Path, ...],
    dry_run: bool,
) -> None:
    """Create or update a Space with what SOURCE needs, such as spaces/zerogpu."""
    values = _secrets(secrets)
    with tempfile.TemporaryDirectory() as folder:
        staged = stage(source, Path(folder) / "space", plugins)
        if dry_run:
            _print_plan(staged, repo, private, hardware, list(values))
            return
        url = push(staged, repo, private=private, hardware=hardware, secrets=values, say=click.echo)
    suggested = staged.card.get("suggested_hardware")
    if suggested and not hardware:
        click.echo(
            f"Made for hardware {suggested}: choose it in the Space's settings, or push with --hardware {suggested}"
        )
    click.echo(url)


def _secrets(pairs: tuple[str, ...]) -> dict[str, str]:
    values = {}
    for pair in pairs:
        name, found, value = pair.partition("=")
        if not found or not name.isidentifier():
            raise OptionError("A --secret is not of the form NAME=VALUE.", "For example --secret HF_TOKEN=hf_...")
        values[name] = value
    return values


def _print_plan(staged: Staged, repo: str, private: bool, hardware: str | None, secrets: list[str]) -> None:
    for name, nbytes in staged.files.items():
        click.echo(f"{nbytes:>11,}  {name}")
    seen = "private" if private else "public, if it is new"
    click.echo(f"{len(staged.files)} files, {staged.nbytes / 1e6:.1f} MB would go to Space {repo} ({seen})")
    click.echo(f"Hardware: {hardware or 'as it is'}. Secrets: {', '.join(secrets) or 'none'}. Nothing was sent.")

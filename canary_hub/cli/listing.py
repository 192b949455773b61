"""`canary-hub plugins`, `components`, `stacks` and `check`: what is installed, and whether it fits."""

from __future__ import annotations

import json
from typing import Any

import click

from ..contracts import describe
from ..errors import HubError
from ..hub import Hub
from ..registry import component_facts, option_facts, segmenter_facts, stack_facts
from ..specs import ComponentSpec, Contract, Stage
from .choices import chosen_stack, hub_of, part_options, plugin_choice, plugin_options

_json = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


@click.command()
@click.option("--verbose", is_flag=True, help="Also what each plugin adds, and tracebacks.")
@_json
@plugin_options
@click.pass_context
def plugins(ctx: click.Context, /, verbose: bool, as_json: bool, **given: Any) -> None:
    """List plugins: where each comes from, what it adds, and why a broken one is left out."""
    hub = hub_of(ctx, **given)
    hub.plugins.add_commands(click.Group("plugins"))  # an error there is shown too
    if as_json:
        rows = [
            {
                "name": r.name,
                "origin": r.origin,
                "version": r.version,
                "import_seconds": round(r.import_seconds, 4),
                "components": [spec.id for spec in r.components],
                "stacks": [spec.name for spec in r.stacks],
                "segmenters": [spec.id for spec in r.segmenters],
                "error": r.error or None,
                "left_out": r.left_out or None,
            }
            for r in hub.records
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for r in hub.records:
        counts = f"{len(r.components)} components, {len(r.stacks)} stacks, {len(r.segmenters)} segmenters"
        adds = counts if r.ok else "not in use"
        click.echo(f"{r.name} {r.version}  [{r.origin}]  {adds}, {r.import_seconds * 1000:.0f} ms")
        if verbose and r.ok:
            names = [spec.id for spec in r.components] + [f"stack {spec.name}" for spec in r.stacks]
            for name in names + [f"segmenter {spec.id}" for spec in r.segmenters]:
                click.echo(f"    {name}")
        if r.error:
            click.echo("    error: " + r.error.replace("\n", "\n           "))
        if r.left_out:
            click.echo(f"    left out: {r.left_out}")
        if verbose and r.trace:
            click.echo("    " + r.trace.rstrip().replace("\n", "\n    "))


@click.command()
@click.argument("which", required=False, metavar="[STAGE|ID]")
@_json
@plugin_options
@click.pass_context
def components(ctx: click.Context, /, which: str | None, as_json: bool, **given: Any) -> None:
    """List components, those of one STAGE, or one component by ID with contract and options.

    Segmenters, which find the pauses in long audio, are listed as "segmenter".
    """
    hub = hub_of(ctx, **given)
    segmenters = [spec for spec in hub.registry.segmenters.values() if which in (None, "segmenter", spec.id)]
    if which is None:
        chosen = list(hub.registry.components.values())
    elif which in [stage.value for stage in Stage]:
        chosen = list(hub.registry.of(Stage(which)))
    else:
        chosen = [] if segmenters else [hub.registry.component(which)]
    if as_json:
        rows = [component_facts(spec, _contract_or_error(hub, spec)) for spec in chosen]
        click.echo(json.dumps(rows + [segmenter_facts(spec) for spec in segmenters], indent=2))
        return
    stage = None
    for spec in sorted(chosen, key=lambda s: list(Stage).index(s.stage)):
        if spec.stage is not stage:
            stage = spec.stage
            click.echo(f"{stage}")
        click.echo(f"  {spec.id:28} {spec.title}")
        if which == spec.id:
            _details(hub, spec)
    if segmenters:
        click.echo("segmenter")
    for segmenter in segmenters:
        click.echo(f"  {segmenter.id:28} {segmenter.title}")


def _details(hub: Hub, spec: ComponentSpec) -> None:
    contract = _contract_or_error(hub, spec)
    if isinstance(contract, str):
        click.echo(f"    contract: {contract}")
    else:
        for word, ports in (("accepts", contract.accepts), ("produces", contract.produces)):
            for port in ports:
                click.echo(f"    {word} {describe(port)}")
    for kind, model in (("build", spec.build_options), ("call", spec.call_options)):
        for name, schema in option_facts(model).items():
            bounds = [f"{key} {schema[key]}" for key in ("minimum", "maximum", "enum") if key in schema]
            extra = f" ({', '.join(bounds)})" if bounds else ""
            default = "(must be given)" if model.model_fields[name].is_required() else repr(schema.get("default"))
            click.echo(f"    {kind} option {name} = {default}{extra}: {schema.get('description', '')}")


def _contract_or_error(hub: Hub, spec: ComponentSpec) -> Contract | str:
    try:
        return hub.contract(spec)
    except HubError as error:
        return error.message


@click.command()
@_json
@plugin_options
@click.pass_context
def stacks(ctx: click.Context, /, as_json: bool, **given: Any) -> None:
    """List stacks and the five components of each."""
    hub = hub_of(ctx, **given)
    if as_json:
        click.echo(json.dumps([stack_facts(spec) for spec in hub.registry.stacks.values()], indent=2))
        return
    for spec in hub.registry.stacks.values():
        click.echo(f"{spec.name}\n  {spec.note}")
        for stage in Stage:
            click.echo(f"  {stage.value:16} {spec.components[stage]}")


@click.command()
@click.argument("name", metavar="STACK")
@part_options
@click.pass_context
def check(ctx: click.Context, /, name: str, **given: Any) -> None:
    """Check whether the parts of STACK fit, before anything is downloaded or loaded."""
    hub = hub_of(ctx, **plugin_choice(given))
    given["stack"] = name
    spec = chosen_stack(hub, given)
    assembly = hub.assemble(spec)
    fit = assembly.fit
    for warning in fit.warnings:
        click.echo(f"warning: {warning}")
    fit.require(spec.name)
    for ref in assembly.missing:
        size = f" ({ref.gib:.1f} GB)" if ref.gib else ""
        click.echo(f"to download: {ref.name}{size}")
    click.echo(f"{spec.name}: the five parts fit together.")

"""The tab that shows what is installed: stacks, components by stage, plugins, and how to add one."""

from __future__ import annotations

from html import escape
from pathlib import PurePath

import gradio as gr

from ..contracts import describe
from ..errors import HubError
from ..hub import Hub
from ..plugins import PluginRecord
from ..specs import ComponentSpec, Contract, Options, Port, SegmenterSpec, StackSpec, Stage
from .widgets.html import count
from .widgets.picker import LABELS, fit_note
from .widgets.runs import Choice

HOW_TO = """from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, Contract, Port, Stage

@hookimpl
def canary_components():
    ports = Contract((Port("hidden", dim=1024),), (Port("embeds", dim=2048),))
    return [ComponentSpec(Stage.PROJECTOR, "me/mlp", f"{__name__}:build", ports)]

def build(build):  # build.options, .weights, .dtype, .device
    return MyProjector()  # called with hidden (B, N, D), lengths (B,); returns embeds (B, M, H), lengths
"""


def registry_tab(hub: Hub) -> None:
    """Draw it once: the registry does not change while the page runs."""
    gr.HTML(
        '<div class="ch-registry">'
        + _section("Stacks", "".join(_stack(hub, spec) for spec in hub.registry.stacks.values()))
        + _section("Components", "".join(_stage(hub, stage) for stage in Stage))
        + _section("Segmenters", _segmenters(hub))
        + _section("Plugins", _plugins(hub.records))
        + _section("Add your own", _how_to())
        + "</div>"
    )


def _section(title: str, inner: str) -> str:
    return f"<section><h2>{title}</h2>{inner}</section>"


def _stack(hub: Hub, spec: StackSpec) -> str:
    boxes = "".join(
        f'<li><span class="ch-quiet">{LABELS[stage][0]}</span><code>{escape(spec.components[stage])}</code></li>'
        for stage in Stage
    )
    facts = f"Audio is cut at pauses to {spec.window_seconds:g} s. Runs in {escape(spec.dtype)}."
    return (
        f'<article class="ch-card"><h3>{escape(spec.title or spec.name)} <code>{escape(spec.name)}</code></h3>'
        f'<p>{escape(spec.note)} <span class="ch-quiet">{facts}</span></p>'
        f'<ol class="ch-flow" aria-label="The five stages of {escape(spec.name, quote=True)}">{boxes}</ol>'
        f"{fit_note(hub, Choice(spec.name))}</article>"
    )


def _stage(hub: Hub, stage: Stage) -> str:
    label, what = LABELS[stage]
    rows = "".join(_component(hub, part) for part in hub.registry.of(stage))
    return f'<h3>{label} <span class="ch-quiet">{what}</span></h3>{rows or "<p>None.</p>"}'


def _component(hub: Hub, part: ComponentSpec) -> str:
    chat = ' <span class="ch-quiet">Answers text prompts too.</span>' if part.chat else ""
    needs = _needs(part)
    options = _options("Build option", part.build_options) + _options("Option", part.call_options)
    table = (
        '<details class="ch-fold"><summary>Options</summary>'
        '<div class="ch-wide"><table class="ch-table"><thead><tr><th scope="col">Name</th>'
        '<th scope="col">Default</th><th scope="col">Kind</th><th scope="col">Meaning</th></tr></thead>'
        f"<tbody>{options}</tbody></table></div></details>"
        if options
        else ""
    )
    return (
        f'<article class="ch-card"><h4><code>{escape(part.id)}</code></h4><p>{escape(part.title)}{chat}{needs}</p>'
        f"<p>{_contract(hub, part)}</p>{table}</article>"
    )


def _needs(part: ComponentSpec | SegmenterSpec) -> str:
    return f' <span class="ch-quiet">Needs {escape(", ".join(part.requires))}.</span>' if part.requires else ""


def _segmenters(hub: Hub) -> str:
    return "<p>They find the pauses at which long audio is cut.</p>" + "".join(
        f'<article class="ch-card"><h4><code>{escape(spec.id)}</code></h4><p>{escape(spec.title)}{_needs(spec)}</p>'
        "</article>"
        for spec in hub.registry.segmenters.values()
    )


def _contract(hub: Hub, part: ComponentSpec) -> str:
    """What a component accepts and produces; nothing is fetched to find out."""
    known = [ref for ref in part.weights.values() if ref is not None and (ref.path or ref.config)]
    if isinstance(part.contract, Contract) or len(known) == len(part.weights):
        try:
            contract = hub.contract(part)
        except HubError as error:
            return f'<span class="ch-warning">Its contract cannot be told: {escape(str(error))}</span>'
        return f"{_ports(contract.accepts) or 'nothing'} &rarr; {_ports(contract.produces) or 'nothing'}"
    return '<span class="ch-quiet">Its sizes follow from the weights of the stack it is used in.</span>'


def _ports(ports: tuple[Port, ...]) -> str:
    return ", ".join(escape(describe(port)) for port in ports)


def _options(kind: str, model: type[Options]) -> str:
    rows = ""
    for name, found in model.model_fields.items():
        default = "required" if found.is_required() else repr(found.get_default(call_default_factory=True))
        bounds = ", ".join(str(bound) for bound in found.metadata)
        rows += (
            f"<tr><td><code>{escape(name)}</code></td><td><code>{escape(default)}</code></td>"
            f"<td>{escape(getattr(found.annotation, '__name__', str(found.annotation)))} "
            f'<span class="ch-quiet">{escape(bounds)}</span></td>'
            f'<td>{escape(found.description or "")} <span class="ch-quiet">{_when(kind)}</span></td></tr>'
        )
    return rows


def _when(kind: str) -> str:
    return "Changes the built object." if kind == "Build option" else ""


def _plugins(records: list[PluginRecord]) -> str:
    rows = "".join(_plugin(record) for record in records)
    return (
        '<div class="ch-wide"><table class="ch-table"><thead><tr><th scope="col">Plugin</th><th scope="col">From</th>'
        '<th scope="col">Adds</th><th scope="col" class="ch-number">Import</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _plugin(record: PluginRecord) -> str:
    origin = PurePath(record.origin).name if record.origin.startswith("/") else record.origin
    if record.ok:
        adds = f"{count(len(record.components), 'component')}, {count(len(record.stacks), 'stack')}"
        if record.segmenters:
            adds += f", {count(len(record.segmenters), 'segmenter')}"
    else:
        adds = f'<span class="ch-warning">Not in use. {escape(record.error)}</span>'
    return (
        f"<tr><td>{escape(record.name)} <span class='ch-quiet'>{escape(record.version)}</span></td>"
        f"<td>{escape(origin)}</td><td>{adds}</td>"
        f'<td class="ch-number">{record.import_seconds * 1000:.0f} ms</td></tr>'
    )


def _how_to() -> str:
    return (
        "<p>Save this as a .py file in a folder and start the page with <code>--plugins-dir FOLDER</code>, "
        "or ship it as a package with an entry point in the group <code>canary_hub</code>.</p>"
        f"<pre>{escape(HOW_TO)}</pre>"
    )

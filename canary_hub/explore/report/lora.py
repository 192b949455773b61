"""`lora` as sections."""

from __future__ import annotations

from ..lora import ENERGY, Heard, Lora, Target
from . import Chart, Section, Series, Table, count, percent, shape, shown

FULL = 8
"""So many candidates for the first token are shown."""


def sections(found: Lora) -> list[Section]:
    """What is wrapped, parameters; with weights also proof, updates and effect."""
    made = [_wrapped(found), _parameters(found)]
    if found.proof is not None:
        made.append(_proof(found))
    if found.updates:
        made += [_updates(found), _singular_values(found)]
    if found.heard:
        made += _effect(found)
    return made


def _wrapped(found: Lora) -> Section:
    rows = tuple(_target(found, target) for target in found.targets)
    factor = f"{found.scaling:.1f}" if found.scaling == round(found.scaling, 1) else f"{found.scaling:g}"
    sentence = (
        f"Beside each frozen weight W stand two thin matrices A and B of rank {found.rank}: the layer computes "
        f"W x + {factor} B (A x), where {factor} = alpha / r = {found.alpha} / {found.rank}."
    )
    table = Table(("linear", "before", "after", "A", "B", "layers"), rows, right=("layers",))
    return Section("What LoRA wraps", sentence, (table,))


def _target(found: Lora, target: Target) -> tuple[str, ...]:
    out, into = target.before
    return (
        target.name,
        f"Linear({into} -> {out}), {count(target.frozen)}",
        f"the same, frozen, and {count(target.trainable)} trainable",
        shape(target.a),
        shape(target.b),
        str(target.layers),
    )


def _parameters(found: Lora) -> Section:
    rows = tuple(
        (name, f"{n:,}", count(n), percent(n, found.total))
        for name, n in (("trainable", found.trainable), ("frozen", found.frozen), ("total", found.total))
    )
    sentence = (
        f"Training the adapter means training {count(found.trainable)} of {count(found.total)} parameters, "
        f"{percent(found.trainable, found.total)}; the other {percent(found.frozen, found.total)} stay as they were."
    )
    columns = ("", "parameters", "rounded", "share")
    return Section("Parameters", sentence, (Table(columns, rows, right=columns[1:]),))


def _proof(found: Lora) -> Section:
    proof = found.proof
    assert proof is not None
    rows = (
        ("weights compared", str(proof.weights)),
        ("largest difference", f"{proof.max_difference:.2e}"),
        (f"one rounding of the largest weight to {proof.dtype}", f"{proof.rounding:.2e}"),
        ("largest element of an update", f"{proof.max_update:.2e}"),
    )
    sentence = (
        f"The loaded weights are base + {found.scaling:g} B A, computed anew in float64, up to "
        f"{proof.max_difference:.1e} of rounding, while the updates themselves reach {proof.max_update:.1e}."
    )
    return Section("Merged = base + scaling * B A", sentence, (Table(("", proof.dtype), rows, right=(proof.dtype,)),))


def _updates(found: Lora) -> Section:
    rows = tuple(
        (
            str(u.layer),
            u.target,
            f"{u.singular_values[0]:.4g}",
            f"{u.norm:.4g}",
            percent(u.norm, u.base_norm),
            f"{u.rank_90} of {found.rank}",
        )
        for u in found.updates
    )
    ratios = sorted((u.norm / u.base_norm if u.base_norm else 0.0, u.module) for u in found.updates)
    sentence = (
        f"Against the norm of the weight it is added to, an update measures from {percent(ratios[0][0], 1)} "
        f"({ratios[0][1]}) to {percent(ratios[-1][0], 1)} ({ratios[-1][1]})."
    )
    columns = ("layer", "linear", "largest value", "norm", "of the base's", f"values for {ENERGY:.0%}")
    chart = Chart(
        "update-norms",
        f"Size of the LoRA updates of {found.stack}",
        "line",
        "layer",
        "norm of the update / norm of the base weight",
        tuple(
            Series(
                target.name,
                tuple(float(u.layer) for u in found.updates if u.target == target.name),
                tuple(u.norm / u.base_norm if u.base_norm else 0.0 for u in found.updates if u.target == target.name),
            )
            for target in found.targets
        ),
    )
    return Section("Size of the updates", sentence, (Table(columns, rows, right=columns[2:]),), (chart,))


def _singular_values(found: Lora) -> Section:
    ranks = sorted(u.rank_90 for u in found.updates)
    sentence = (
        f"How fast the curves fall shows how much of the rank is used: 90 % of an update's squared norm lies in "
        f"{ranks[0]} to {ranks[-1]} of {found.rank} directions (median {ranks[len(ranks) // 2]})."
    )
    charts = tuple(
        Chart(
            f"singular-values-{target.name}",
            f"Singular values of scaling * B A, {target.name}, one line per layer",
            "line",
            "index",
            "singular value",
            tuple(
                Series(f"layer {u.layer}", tuple(float(i + 1) for i in range(found.rank)), u.singular_values)
                for u in found.updates
                if u.target == target.name
            ),
        )
        for target in found.targets
    )
    return Section("Singular values of the updates", sentence, charts=charts)


def _effect(found: Lora) -> list[Section]:
    off, on = found.heard
    rows = tuple(
        (
            "on" if heard.adapter else "off",
            heard.text + (f"  ({heard.note})" if heard.note else ""),
            str(heard.tokens),
            "-" if heard.confidence is None else f"{100 * heard.confidence:.1f} %",
        )
        for heard in (on, off)
    )
    same = "writes the same words" if on.text == off.text else "writes something else"
    sentence = f"Without its adapter the LLM hears the same audio embeddings and {same}."
    table = Table(("adapter", "text", "tokens", "confidence"), rows, right=("tokens", "confidence"))
    chosen = f"The clip is {found.clip}. " + sentence
    return [
        Section("The adapter on and off", chosen, (table,)),
        Section(
            "The first token",
            "How probable each beginning is with the adapter and without it: what the adapter changes shows here "
            "before anything is written.",
            (_first(on), _first(off)),
        ),
    ]


def _first(heard: Heard) -> Table:
    rows = tuple((shown(c.piece), f"{100 * c.probability:.2f} %") for c in heard.first[:FULL])
    return Table(
        ("token", "probability"), rows, right=("probability",), title=f"adapter {'on' if heard.adapter else 'off'}"
    )

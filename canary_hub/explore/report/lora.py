"""`lora` as sections."""

from __future__ import annotations

from ..lora import ENERGY, Heard, Lora, Target
from . import Chart, Section, Series, Table, count, percent, shape, shown

FULL = 8
"""So many candidates for the first token are shown."""


def sections(result: Lora) -> list[Section]:
    """What is wrapped, parameters; with weights also proof, updates and effect."""
    parts = [_wrapped(result), _parameters(result)]
    if result.proof is not None:
        parts.append(_proof(result))
    if result.updates:
        parts += [_updates(result), _singular_values(result)]
    if result.heard:
        parts += _effect(result)
    return parts


def _wrapped(result: Lora) -> Section:
    rows = tuple(_target(result, target) for target in result.targets)
    factor = f"{result.scaling:.1f}" if result.scaling == round(result.scaling, 1) else f"{result.scaling:g}"
    sentence = (
        f"Beside each frozen weight W stand two thin matrices A and B of rank {result.rank}: the layer computes "
        f"W x + {factor} B (A x), where {factor} = alpha / r = {result.alpha} / {result.rank}."
    )
    table = Table(("linear", "before", "after", "A", "B", "layers"), rows, right=("layers",))
    return Section("What LoRA wraps", sentence, (table,))


def _target(result: Lora, target: Target) -> tuple[str, ...]:
    out, into = target.before
    return (
        target.name,
        f"Linear({into} -> {out}), {count(target.frozen)}",
        f"the same, frozen, and {count(target.trainable)} trainable",
        shape(target.a),
        shape(target.b),
        str(target.layers),
    )


def _parameters(result: Lora) -> Section:
    rows = tuple(
        (name, f"{n:,}", count(n), percent(n, result.total))
        for name, n in (("trainable", result.trainable), ("frozen", result.frozen), ("total", result.total))
    )
    sentence = (
        f"Training the adapter means training {count(result.trainable)} of {count(result.total)} parameters, "
        f"{percent(result.trainable, result.total)}; the other {percent(result.frozen, result.total)} stay as "
        "they were."
    )
    columns = ("", "parameters", "rounded", "share")
    return Section("Parameters", sentence, (Table(columns, rows, right=columns[1:]),))


def _proof(result: Lora) -> Section:
    proof = result.proof
    assert proof is not None
    rows = (
        ("weights compared", str(proof.weights)),
        ("largest difference", f"{proof.max_difference:.2e}"),
        (f"one rounding of the largest weight to {proof.dtype}", f"{proof.rounding:.2e}"),
        ("largest element of an update", f"{proof.max_update:.2e}"),
    )
    sentence = (
        f"The loaded weights are base + {result.scaling:g} B A, computed anew in float64, up to "
        f"{proof.max_difference:.1e} of rounding, while the updates themselves reach {proof.max_update:.1e}."
    )
    return Section("Merged = base + scaling * B A", sentence, (Table(("", proof.dtype), rows, right=(proof.dtype,)),))


def _updates(result: Lora) -> Section:
    rows = tuple(
        (
            str(u.layer),
            u.target,
            f"{u.singular_values[0]:.4g}",
            f"{u.norm:.4g}",
            percent(u.norm, u.base_norm),
            f"{u.rank_90} of {result.rank}",
        )
        for u in result.updates
    )
    ratios = sorted((u.norm / u.base_norm if u.base_norm else 0.0, u.module) for u in result.updates)
    sentence = (
        f"Against the norm of the weight it is added to, an update measures from {percent(ratios[0][0], 1)} "
        f"({ratios[0][1]}) to {percent(ratios[-1][0], 1)} ({ratios[-1][1]})."
    )
    columns = ("layer", "linear", "largest value", "norm", "of the base's", f"values for {ENERGY:.0%}")
    chart = Chart(
        "update-norms",
        f"Size of the LoRA updates of {result.stack}",
        "line",
        "layer",
        "norm of the update / norm of the base weight",
        tuple(
            Series(
                target.name,
                tuple(float(u.layer) for u in result.updates if u.target == target.name),
                tuple(u.norm / u.base_norm if u.base_norm else 0.0 for u in result.updates if u.target == target.name),
            )
            for target in result.targets
        ),
    )
    return Section("Size of the updates", sentence, (Table(columns, rows, right=columns[2:]),), (chart,))


def _singular_values(result: Lora) -> Section:
    ranks = sorted(u.rank_90 for u in result.updates)
    sentence = (
        f"How fast the curves fall shows how much of the rank is used: 90 % of an update's squared norm lies in "
        f"{ranks[0]} to {ranks[-1]} of {result.rank} directions (median {ranks[len(ranks) // 2]})."
    )
    charts = tuple(
        Chart(
            f"singular-values-{target.name}",
            f"Singular values of scaling * B A, {target.name}, one line per layer",
            "line",
            "index",
            "singular value",
            tuple(
                Series(f"layer {u.layer}", tuple(float(i + 1) for i in range(result.rank)), u.singular_values)
                for u in result.updates
                if u.target == target.name
            ),
        )
        for target in result.targets
    )
    return Section("Singular values of the updates", sentence, charts=charts)


def _effect(result: Lora) -> list[Section]:
    off, on = result.heard
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
    chosen = f"The clip is {result.clip}. " + sentence
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

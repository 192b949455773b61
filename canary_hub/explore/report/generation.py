"""`generation` as sections."""

from __future__ import annotations

from ..generation import Generation
from . import Chart, Section, Series, Table, shown, size

ALTERNATIVES = 3
"""So many tokens are shown that could have been written instead."""


def sections(result: Generation) -> list[Section]:
    """Settings, two ways, tokens, other answers, stop conditions."""
    parts = [_settings(result), _two_ways(result)]
    if result.written:
        parts.append(_tokens(result))
    if result.runs:
        parts.append(_runs(result))
    parts.append(_stops(result))
    return parts


def _settings(result: Generation) -> Section:
    rows = [(name, str(value)) for name, value in result.settings.items()]
    rows += [("end of an answer (eos)", ", ".join(map(str, result.eos_ids)))]
    rows += [("padding (pad)", "-" if result.pad_id is None else str(result.pad_id))]
    greedy = not result.settings.get("temperature")
    how = "greedy (do_sample=False): the most probable token every time" if greedy else "drawn (do_sample=True)"
    sentence = f"Decoding is {how}, for at most {result.settings.get('max_new_tokens', 'so many')} tokens."
    if result.bytes_per_token is not None:
        sentence += f" Each step reads all of the LLM's weights once, {size(result.bytes_per_token)}."
    return Section("Settings", sentence, (Table(("option", "value"), tuple(rows)),))


def _two_ways(result: Generation) -> Section:
    sentence = (
        "Given ids, transformers' generate returns the prompt and the new tokens; given embeddings, which have no ids "
        "to return, the new tokens only."
    )
    ways = result.two_ways
    if ways is None:
        rows = (("input_ids (B, L)", "L + new"), ("inputs_embeds (B, L, H)", "new"))
        return Section("Two ways to generate", sentence, (Table(("given", "ids returned"), rows),))
    new = ways.from_ids - ways.prompt_tokens
    sentence += f" Tried on the prompt without audio, which both can carry: the new tokens {_same(ways.same)}."
    rows = (
        (f"input_ids (1, {ways.prompt_tokens})", f"{ways.from_ids} = {ways.prompt_tokens} + {new}"),
        (f"inputs_embeds (1, {ways.prompt_tokens}, H)", str(ways.from_embeds)),
    )
    return Section("Two ways to generate", sentence, (Table(("given", "ids returned"), rows, right=("ids returned",)),))


def _same(same: bool) -> str:
    return "are the same" if same else "differ"


def _tokens(result: Generation) -> Section:
    rows = tuple(
        (
            str(i + 1),
            str(token.id),
            shown(token.piece),
            f"{100 * token.probability:.2f} %",
            f"{token.entropy:.2f}",
            f"{ms:.1f}",
            ", ".join(
                f"{shown(other.piece)} {100 * other.probability:.2f} %" for other in token.alternatives[:ALTERNATIVES]
            ),
        )
        for i, (token, ms) in enumerate(zip(result.written, result.ms, strict=True))
    )
    least = min(result.written, key=lambda token: token.probability)
    sentence = (
        f"The first token waits for all {result.positions} positions of the prompt, {result.ms[0]:.1f} ms; the "
        f"least sure of the {len(result.written)} is {shown(least.piece)!r} with {100 * least.probability:.1f} %."
    )
    labels = tuple(f"{i + 1} {shown(token.piece)}" for i, token in enumerate(result.written))
    numbers = tuple(float(i + 1) for i in range(len(labels)))
    charts = (
        Chart(
            "probabilities",
            f"Probability of each token, {result.clip}",
            "bar",
            "",
            "probability",
            (Series("probability", labels, tuple(token.probability for token in result.written)),),
        ),
        Chart(
            "times",
            f"Time until each token, {result.clip}",
            "line",
            "token",
            "ms",
            (Series("ms", numbers, result.ms),),
        ),
    )
    columns = ("", "id", "token", "probability", "entropy, bits", "ms", "instead")
    right = ("id", "probability", "entropy, bits", "ms")
    return Section(f"Token by token: {result.clip}", sentence, (Table(columns, rows, right=right),), charts)


def _runs(result: Generation) -> Section:
    rows = tuple(
        (
            run.title,
            run.text,
            str(run.tokens),
            run.ended,
            str(run.as_greedy),
            "-" if run.ms_per_token is None else f"{run.ms_per_token:.1f}",
        )
        for run in result.runs
    )
    greedy, *others = result.runs
    drawn = [run for run in others if "temperature" in run.changed]
    differ = sum(run.text != greedy.text for run in drawn)
    sentence = "A limit cuts the same answer short"
    if drawn:
        sentence += f"; drawing instead of taking the most probable token changed {differ} of {len(drawn)} answers"
    off = next((run for run in others if run.changed.get("adapter") is False), None)
    if off is not None:
        sentence += f"; without the adapter the text is {'the same' if off.text == greedy.text else 'another'}"
    columns = ("how", "answer", "tokens", "ended by", "as greedy", "ms per token")
    table = Table(columns, rows, right=("tokens", "as greedy", "ms per token"))
    return Section("Limits, drawing, adapter", sentence + ".", (table,))


def _stops(result: Generation) -> Section:
    limit = result.settings.get("max_new_tokens")
    seen = {run.ended: run.title for run in reversed(result.runs)}
    rows = (
        ("end token", f"id {' or '.join(map(str, result.eos_ids))} is written", seen.get("end token", "-")),
        ("limit", "-" if limit is None else f"max_new_tokens = {limit} are written", seen.get("limit", "-")),
        (
            "repetition",
            f"the same tokens {result.repeats} times over, at least {result.repeated_tokens} of them",
            seen.get("repetition", "-"),
        ),
    )
    sentence = "An answer ends by the first of three things; the last one is canary_hub's guard against loops."
    return Section("What ends an answer", sentence, (Table(("ended by", "when", "seen above in"), rows),))

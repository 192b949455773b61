"""`generation` as sections."""

from __future__ import annotations

from ..generation import Generation
from . import Chart, Section, Series, Table, shown, size


def sections(found: Generation) -> list[Section]:
    """Settings, two ways, tokens, other answers, stop conditions."""
    made = [_settings(found), _two_ways(found)]
    if found.written:
        made.append(_tokens(found))
    if found.runs:
        made.append(_runs(found))
    made.append(_stops(found))
    return made


def _settings(found: Generation) -> Section:
    rows = [(name, str(value)) for name, value in found.settings.items()]
    rows += [("end of an answer (eos)", ", ".join(map(str, found.eos_ids)))]
    rows += [("padding (pad)", "-" if found.pad_id is None else str(found.pad_id))]
    greedy = not found.settings.get("temperature")
    how = "greedy (do_sample=False): the most probable token every time" if greedy else "drawn (do_sample=True)"
    sentence = f"Decoding is {how}, for at most {found.settings.get('max_new_tokens', 'so many')} tokens."
    if found.bytes_per_token is not None:
        sentence += f" Each step reads all of the LLM's weights once, {size(found.bytes_per_token)}."
    return Section("Settings", sentence, (Table(("option", "value"), tuple(rows)),))


def _two_ways(found: Generation) -> Section:
    sentence = (
        "Given ids, transformers' generate returns the prompt and the new tokens; given embeddings, which have no ids "
        "to return, the new tokens only."
    )
    ways = found.two_ways
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


def _tokens(found: Generation) -> Section:
    rows = tuple(
        (
            str(i + 1),
            str(token.id),
            shown(token.piece),
            f"{100 * token.probability:.2f} %",
            f"{token.entropy:.2f}",
            f"{token.ms:.1f}",
            ", ".join(f"{shown(other.piece)} {100 * other.probability:.2f} %" for other in token.alternatives),
        )
        for i, token in enumerate(found.written)
    )
    least = min(found.written, key=lambda token: token.probability)
    sentence = (
        f"The first token waits for all {found.positions} positions of the prompt, {found.written[0].ms:.1f} ms; the "
        f"least sure of the {len(found.written)} is {shown(least.piece)!r} with {100 * least.probability:.1f} %."
    )
    labels = tuple(f"{i + 1} {shown(token.piece)}" for i, token in enumerate(found.written))
    numbers = tuple(float(i + 1) for i in range(len(labels)))
    charts = (
        Chart(
            "probabilities",
            f"Probability of each token, {found.clip}",
            "bar",
            "",
            "probability",
            (Series("probability", labels, tuple(token.probability for token in found.written)),),
        ),
        Chart(
            "times",
            f"Time until each token, {found.clip}",
            "line",
            "token",
            "ms",
            (Series("ms", numbers, tuple(token.ms for token in found.written)),),
        ),
    )
    columns = ("", "id", "token", "probability", "entropy, bits", "ms", "instead")
    right = ("id", "probability", "entropy, bits", "ms")
    return Section(f"Token by token: {found.clip}", sentence, (Table(columns, rows, right=right),), charts)


def _runs(found: Generation) -> Section:
    rows = tuple(
        (
            run.title,
            run.text,
            str(run.tokens),
            run.ended,
            str(run.as_greedy),
            "-" if run.ms_per_token is None else f"{run.ms_per_token:.1f}",
        )
        for run in found.runs
    )
    greedy, *others = found.runs
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


def _stops(found: Generation) -> Section:
    limit = found.settings.get("max_new_tokens")
    seen = {run.ended: run.title for run in reversed(found.runs)}
    rows = (
        ("end token", f"id {' or '.join(map(str, found.eos_ids))} is written", seen.get("end token", "-")),
        ("limit", "-" if limit is None else f"max_new_tokens = {limit} are written", seen.get("limit", "-")),
        (
            "repetition",
            f"the same tokens {found.repeats} times over, at least {found.repeated_tokens} of them",
            seen.get("repetition", "-"),
        ),
    )
    sentence = "An answer ends by the first of three things; the last one is canary_hub's guard against loops."
    return Section("What ends an answer", sentence, (Table(("ended by", "when", "seen above in"), rows),))

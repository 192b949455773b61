"""`injection` as sections."""

from __future__ import annotations

from ..injection import BatchRow, Injection
from . import Chart, Section, Series, Table, shown

EDGE = 3
"""So many audio frames are shown at both ends."""


def sections(result: Injection) -> list[Section]:
    """Prompt, before and after, what changed, batch."""
    parts = [_prompt(result)]
    if result.alone is not None:
        parts += [_counts(result, result.alone), _positions(result)]
    if result.batch:
        parts.append(_batch(result))
    return parts


def _prompt(result: Injection) -> Section:
    rows = tuple(
        (str(i), "-" if token.id is None else str(token.id), shown(token.piece), "<- the audio" if token.slot else "")
        for i, token in enumerate(result.prompt)
    )
    if result.placeholder_id is None:
        sentence = "The prompt's pieces; without the tokenizer they cannot be cut into tokens."
    else:
        sentence = f"The placeholder has id {result.placeholder_id} and stands at place {result.place}"
        if result.vocab_size is not None:
            inside = result.placeholder_id < result.vocab_size
            row = "it has a row in the table, which is never used" if inside else "it has no row there"
            sentence += f"; the embedding table has {result.vocab_size} rows, so {row}"
        sentence += f". The ids are from {result.prompt_source}."
    table = Table(("place", "id", "piece", ""), rows, right=("place", "id"))
    return Section("The prompt", sentence, (table,))


def _counts(result: Injection, alone: BatchRow) -> Section:
    before, after, n = alone.before, alone.after, alone.frames
    text = before + after
    rows = (
        ("before", str(before), "1 placeholder", str(after), str(text + 1)),
        (f"after, N = {n}", str(before), f"{n} frames", str(after), str(text + n)),
    )
    sentence = (
        f"{before} + 1 + {after} = {text + 1} tokens become {text} + N embeddings: {result.clip} of "
        f"{result.seconds:.2f} s has N = {n} audio frames, one per {result.frame_ms:.0f} ms, so {text + n}."
    )
    columns = ("", "text before", "audio", "text after", "positions")
    return Section("Before and after", sentence, (Table(columns, rows, right=columns[1:]),))


def _positions(result: Injection) -> Section:
    first = result.place
    last = first + result.frames - 1
    rows = []
    for i, position in enumerate(result.positions):
        if first + EDGE <= i <= last - EDGE:
            if i == first + EDGE:
                rows.append(("...", "audio", f"{last - first + 1 - 2 * EDGE} more frames", ""))
            continue
        norm = "-" if position.norm is None else f"{position.norm:.3g}"
        rows.append((str(i), position.kind, shown(position.piece), norm))
    table = Table(("position", "kind", "piece", "norm"), tuple(rows), right=("position", "norm"))
    norms = [position.norm for position in result.positions if position.norm is not None]
    if len(norms) < len(result.positions):
        sentence = (
            f"The embeddings go to the LLM as one sequence of {len(result.positions)} vectors of {result.hidden_size}."
        )
        return Section("What the LLM reads", sentence, (table,))
    text = sorted(p.norm for p in result.positions if p.kind == "text" and p.norm is not None)
    audio = sorted(p.norm for p in result.positions if p.kind == "audio" and p.norm is not None)
    sentence = (
        f"Injection moved no number (text by {result.text_changed:g}, audio by {result.audio_changed:g}); the audio's "
        f"vectors have a median norm of {audio[len(audio) // 2]:.3g}, the text's {text[len(text) // 2]:.3g}."
    )
    parts = (("text before", 0, first), ("audio", first, last + 1), ("text after", last + 1, len(norms)))
    series = tuple(
        Series(name, tuple(float(i) for i in range(start, end)), tuple(norms[start:end])) for name, start, end in parts
    )
    chart = Chart("norms", f"Norms of the embeddings, {result.stack}", "line", "position", "norm", series)
    return Section("What the LLM reads", sentence, (table,), (chart,))


def _batch(result: Injection) -> Section:
    rows = tuple(
        (
            f"{row.seconds:.2f} s",
            str(row.padding),
            f"{row.before} + {row.frames} + {row.after}",
            str(len(row.mask)),
            f"0 x {row.padding}, 1 x {sum(row.mask)}",
            _drawn(row.mask),
        )
        for row in result.batch
    )
    sentence = (
        "Rows of a batch are filled up with zeros on the left, where the attention mask is 0, so that all of them end "
        "at the same position and write their next token there."
    )
    columns = ("audio", "padding", "embeddings", "positions", "attention mask", "drawn")
    labels = tuple(f"{row.seconds:.2f} s" for row in result.batch)
    chart = Chart(
        "padding",
        "A left-padded batch of unequal clips",
        "bar",
        "",
        "position",
        (
            Series("padding", labels, tuple(float(row.padding) for row in result.batch)),
            Series("text before", labels, tuple(float(row.before) for row in result.batch)),
            Series("audio", labels, tuple(float(row.frames) for row in result.batch)),
            Series("text after", labels, tuple(float(row.after) for row in result.batch)),
        ),
    )
    table = Table(columns, rows, right=columns[1:4])
    return Section("Left padding in a batch", sentence, (table,), (chart,))


def _drawn(mask: tuple[int, ...]) -> str:
    """The mask in at most 40 characters."""
    step = max(1, -(-len(mask) // 40))
    return "".join("\u2588" if any(mask[i : i + step]) else "\u00b7" for i in range(0, len(mask), step))

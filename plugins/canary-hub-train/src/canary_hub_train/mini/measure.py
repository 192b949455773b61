"""Word error rates of `mini`, by source and by length, with Whisper's normaliser."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from .batches import Batch, Codec, collate
from .model import Mini
from .shards import Heard, Shard

MOST_TOKENS = 200
LENGTHS = ((0, 3), (3, 6), (6, 10), (10, 20), (20, 31))
"""Bands of seconds to report by."""


def normaliser() -> Callable[[str], str]:
    """openai/whisper's English text normaliser, from the package whisper-normalizer."""
    from whisper_normalizer.english import EnglishTextNormalizer

    found: Callable[[str], str] = EnglishTextNormalizer()
    return found


@torch.inference_mode()
def decode(model: Mini, frames: Tensor, lengths: Tensor, codec: Codec) -> list[list[int]]:
    """Greedy ids for frames (B, M, hidden): the prompts are padded on the left; at most 10 and 7 a second."""
    table, device = model.table, frames.device
    before, after = (table[torch.tensor(ids, device=device)] for ids in (codec.before, codec.after))
    rows = [torch.cat([before, f[:n].to(table.dtype), after]) for f, n in zip(frames, lengths.tolist(), strict=True)]
    length = max(len(row) for row in rows)
    embeds = torch.stack([torch.nn.functional.pad(row, (0, 0, length - len(row), 0)) for row in rows])
    mask = torch.stack([(torch.arange(length, device=device) >= length - len(row)).long() for row in rows])
    most = min(MOST_TOKENS, 10 + int(lengths.max()) * 7 // 12)
    cache = DynamicCache()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    out: list[list[int]] = [[] for _ in rows]
    alive = torch.ones(len(rows), dtype=torch.bool)
    for _ in range(most):
        hidden = model.llm.model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        chosen = (hidden @ table.T).argmax(-1)
        for i, token in enumerate(chosen.tolist()):
            if alive[i] and token == codec.end:
                alive[i] = False
            elif alive[i]:
                out[i].append(token)
        if not alive.any():
            break
        embeds = table[chosen][:, None]
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        positions = positions[:, -1:] + 1
    return out


def read_ctc(model: Mini, frames: Tensor, lengths: Tensor) -> list[list[int]]:
    """What the CTC head reads in frames (B, M, hidden): best ids, repeats and blanks taken out."""
    best = model.ctc_logits(frames).argmax(-1)
    out = []
    for row, n in zip(best, lengths.tolist(), strict=True):
        ids = torch.unique_consecutive(row[:n]).tolist()
        out.append([i for i in ids if i != model.blank])
    return out


@dataclass
class Read:
    """One clip and what the model made of it."""

    row: Heard
    llm: str
    ctc: str


def _groups(rows: Sequence[Heard], size: int) -> Iterator[list[Heard]]:
    ordered = sorted(rows, key=lambda row: row.frames)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


@torch.inference_mode()
def read_shards(
    model: Mini, shards: Sequence[Shard], codec: Codec, device: str = "cpu", size: int = 24, shuffled: bool = False
) -> list[Read]:
    """Every clip of the shards as `mini` hears it.

    Args:
        shuffled: each clip gets another one's audio: whether the model listens.
    """
    model.eval()
    found = []
    for shard in shards:
        for group in _groups(shard.rows, size):
            batch: Batch = collate([(shard.stacked(row), []) for row in group])
            # bf16 as in training: the processor multiplies it many times as fast.
            with torch.autocast(device, torch.bfloat16):
                frames = model.proj(batch.audio.to(device).float())
                ids = decode(model, frames, batch.lengths, codec)
                ctc = read_ctc(model, frames, batch.lengths)
            rows = [group[(i + 1) % len(group)] for i in range(len(group))] if shuffled else group
            found += [Read(row, codec.decode(a), codec.decode(b)) for row, a, b in zip(rows, ids, ctc, strict=True)]
    model.train()
    return found


def word_errors(texts: Sequence[str], said: Sequence[str], normal: Callable[[str], str]) -> tuple[int, int]:
    """(errors, words) by Whisper's normaliser; texts that are empty are left out."""
    import jiwer

    pairs = [(normal(a), normal(b)) for a, b in zip(texts, said, strict=True)]
    pairs = [pair for pair in pairs if pair[0]]
    if not pairs:
        return 0, 0
    out = jiwer.process_words([a for a, _ in pairs], [b for _, b in pairs])
    return out.substitutions + out.deletions + out.insertions, out.hits + out.substitutions + out.deletions


PEOPLE = ("librispeech", "common_voice", "vctk")
"""The three whose mean decides."""


def report(reads: Sequence[Read], normal: Callable[[str], str]) -> dict[str, Any]:
    """Percent of words wrong: by source, by length, of the three that decide, of CTC; and invented in silence."""

    def rate(chosen: Sequence[Read], ctc: bool = False) -> float | None:
        texts, said = [r.row.text for r in chosen], [r.ctc if ctc else r.llm for r in chosen]
        wrong, words = word_errors(texts, said, normal)
        return round(100 * wrong / words, 1) if words else None

    sources = sorted({r.row.source for r in reads})
    silent = [r for r in reads if not r.row.text]
    deciding = [r for r in reads if r.row.source in PEOPLE]
    bands = {f"{low}-{high}s": [r for r in reads if low <= r.row.seconds < high] for low, high in LENGTHS}
    return {
        "all": rate(reads),
        "ctc": rate(reads, ctc=True),
        "people": rate(deciding),
        "people_ctc": rate(deciding, ctc=True),
        "source": {s: rate([r for r in reads if r.row.source == s]) for s in sources},
        "length": {name: rate(chosen) for name, chosen in bands.items() if chosen},
        "invented": sum(bool(r.llm) for r in silent) if silent else None,
    }

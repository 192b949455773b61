"""Greedy transcription by the exported nano, the way the hub does it: chat prompt, audio spliced in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from .model import Nano

Wave = npt.NDArray[np.float32]
MAX_NEW_TOKENS = 96


@torch.no_grad()
def transcribe(model: Nano, clips: Sequence[Wave], batch: int = 16) -> list[str]:
    """One text per clip (S,) of 16 kHz samples. Sorted by length, decoded as left-padded batches."""
    order = sorted(range(len(clips)), key=lambda i: len(clips[i]))
    texts = [""] * len(clips)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        for row, text in zip(rows, _batch(model, [clips[i] for i in rows]), strict=True):
            texts[row] = text
    return texts


def _batch(model: Nano, clips: list[Wave]) -> list[str]:
    lengths = torch.tensor([len(clip) for clip in clips], device=model.device)
    wav = torch.zeros(len(clips), int(lengths.max()), device=model.device)
    for i, clip in enumerate(clips):
        wav[i, : len(clip)] = torch.from_numpy(clip)
    hidden, frames = model.encode(wav, lengths)
    heard = model.proj(hidden)
    coder, table = model.coder, model.embeddings
    before, after = (table(torch.tensor(ids, device=model.device)) for ids in (coder.before, coder.after))
    rows = [torch.cat([before, heard[i, :n], after]) for i, n in enumerate(frames.tolist())]
    longest = max(len(row) for row in rows)
    embeds = torch.zeros(len(rows), longest, model.sizes.hidden, device=model.device)
    mask = torch.zeros(len(rows), longest, dtype=torch.long, device=model.device)
    for i, row in enumerate(rows):
        embeds[i, longest - len(row) :] = row
        mask[i, longest - len(row) :] = 1
    ids = model.llm.generate(  # type: ignore[operator]
        inputs_embeds=embeds,
        attention_mask=mask,
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        eos_token_id=coder.end,
        pad_token_id=coder.pad,
    )
    return [coder.decode(row) for row in ids.tolist()]

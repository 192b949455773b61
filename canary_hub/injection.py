"""Audio embeddings into the prompt's embeddings, and left-padded batches of the result.

Mirrors NeMo 2.7 `speechlm2.models.salm.replace_placeholders_and_build_targets`: every placeholder
position is replaced by that audio's embeddings, rows are padded on the left with zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import HubError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Injected:
    """A batch ready for the LLM.

    inputs_embeds: (B, L, H), zeros in the padding.
    attention_mask: (B, L) bool, False in the padding.
    spans: per row, the (start, end) positions that each audio took, padding counted.
    """

    inputs_embeds: torch.Tensor
    attention_mask: torch.Tensor
    spans: tuple[tuple[tuple[int, int], ...], ...]


def inject(
    rows: Sequence[Sequence[int]],
    embed: Callable[[torch.Tensor], torch.Tensor],
    audio: Sequence[torch.Tensor],
    placeholder_id: int,
) -> Injected:
    """Put the audio embeddings where the prompts hold placeholders.

    Args:
        rows: prompt ids, one sequence per batch row, of any lengths.
        embed: ids (L,) int64 -> (L, H); never called with the placeholder, whose id may lie past
            the embedding table.
        audio: (M_i, H) each, used up by the placeholders in reading order.
        placeholder_id: the id that marks a slot.

    Raises: HubError when placeholders and audio differ in number.
    """
    import torch

    slots = sum(row.count(placeholder_id) for row in map(list, rows))
    if slots != len(audio):
        raise HubError(
            f"The prompts hold {slots} placeholder(s) for {len(audio)} audio input(s).",
            "Each audio needs exactly one placeholder.",
        )
    queue = iter(audio)
    built: list[torch.Tensor] = []
    spans: list[list[tuple[int, int]]] = []
    for row in rows:
        ids = torch.tensor(list(row), dtype=torch.long)
        # NeMo embeds id 0 in the placeholder's place and then overwrites it.
        text = embed(torch.where(ids == placeholder_id, 0, ids))
        pieces, taken, at, position = [], [], 0, 0
        for slot in (ids == placeholder_id).nonzero().flatten().tolist():
            clip = next(queue).to(text.dtype)
            pieces += [text[at:slot], clip]
            position += slot - at
            taken.append((position, position + len(clip)))
            position += len(clip)
            at = slot + 1
        pieces.append(text[at:])
        built.append(torch.cat(pieces))
        spans.append(taken)
    length = max(map(len, built))
    embeds = built[0].new_zeros(len(built), length, built[0].shape[-1])
    mask = torch.zeros(len(built), length, dtype=torch.bool, device=embeds.device)
    for i, one in enumerate(built):
        if len(one):
            embeds[i, -len(one) :] = one
            mask[i, -len(one) :] = True
    padded = tuple(
        tuple((start + length - len(built[i]), end + length - len(built[i])) for start, end in taken)
        for i, taken in enumerate(spans)
    )
    return Injected(embeds, mask, padded)

"""Audio embeddings into the prompt's embeddings, and left-padded batches of the result.

Mirrors NeMo 2.7 `speechlm2.models.salm.replace_placeholders_and_build_targets`: every placeholder
position is replaced by that audio's embeddings, rows are padded on the left with zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import HubError

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


def inject_audio_embeddings(
    input_ids: torch.Tensor,
    text_embeds: torch.Tensor,
    audio_embeds: torch.Tensor | Sequence[torch.Tensor],
    placeholder_id: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replace every placeholder by audio embeddings; what `inject` does, for embeddings that are there already.

    A prompt of 9 + 1 + 5 = 15 ids with N audio frames becomes 14 + N embeddings. Gradients flow to both inputs.
    Source: NeMo 2.7 `speechlm2.models.salm.replace_placeholders_and_build_targets`.

    Args:
        input_ids: (B, T_text) int64, prompts of equal length without padding.
        text_embeds: (B, T_text, H) floating; what stands at the placeholders is dropped.
        audio_embeds: (B, N, H), or a sequence of (N_i, H) for clips of unequal lengths; used up by the
            placeholders in reading order and converted to the dtype of `text_embeds`.
        placeholder_id: the id that marks a slot, such as 151669 for Canary-Qwen.

    Returns: embeds (B, L, H) in the dtype of `text_embeds`, L = T_text - 1 + the largest N with one slot a row,
        shorter rows padded on the left with zeros; attention_mask (B, L) bool, False in the padding.

    Raises: HubError when shapes do not fit, or placeholders and audio differ in number.
    """
    sizes = {tuple(clip.shape[1:]) for clip in audio_embeds}
    if input_ids.ndim != 2 or text_embeds.ndim != 3 or input_ids.shape != text_embeds.shape[:2]:
        raise HubError(
            f"input_ids {tuple(input_ids.shape)} and text_embeds {tuple(text_embeds.shape)} do not fit together.",
            "They must be (B, T_text) and (B, T_text, H).",
        )
    if not sizes <= {tuple(text_embeds.shape[2:])}:
        raise HubError(
            f"Audio embeddings of size {sorted(sizes)} do not fit text embeddings of size {text_embeds.shape[2]}.",
            "Every clip must be (N, H) with the hidden_size H of the text embeddings.",
        )
    rows = iter(text_embeds)
    injected = inject(input_ids.tolist(), lambda ids: next(rows), list(audio_embeds), placeholder_id)
    return injected.inputs_embeds, injected.attention_mask

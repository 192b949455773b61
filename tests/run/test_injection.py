"""Injection: where the audio goes, what pads, and that the placeholder is never embedded."""

from __future__ import annotations

import pytest
import torch

from canary_hub.errors import HubError
from canary_hub.run.injection import inject

SLOT = 99


def embed(ids: torch.Tensor) -> torch.Tensor:
    assert SLOT not in ids  # its row may not exist
    return ids[:, None].float().expand(-1, 4)


def clip(n: int, value: float) -> torch.Tensor:
    return torch.full((n, 4), value)


def test_audio_takes_the_placeholders_place() -> None:
    out = inject([[1, SLOT, 2]], embed, [clip(3, 0.5)], SLOT)
    assert out.inputs_embeds[0, :, 0].tolist() == [1, 0.5, 0.5, 0.5, 2]
    assert out.attention_mask.tolist() == [[True] * 5]
    assert out.spans == (((1, 4),),)


def test_rows_are_padded_on_the_left_with_zeros() -> None:
    out = inject([[1, SLOT], [SLOT, 2, 3]], embed, [clip(4, 0.5), clip(1, 0.25)], SLOT)
    assert out.inputs_embeds[1, :, 0].tolist() == [0, 0, 0.25, 2, 3]
    assert out.attention_mask.tolist() == [[True] * 5, [False, False, True, True, True]]
    assert out.spans == (((1, 5),), ((2, 3),))


def test_several_slots_and_none() -> None:
    out = inject([[SLOT, 5, SLOT], [7]], embed, [clip(1, 0.1), clip(2, 0.2)], SLOT)
    assert out.inputs_embeds[0, :, 0].tolist() == pytest.approx([0.1, 5, 0.2, 0.2])
    assert out.inputs_embeds[1, :, 0].tolist() == [0, 0, 0, 7]
    assert out.spans == (((0, 1), (2, 4)), ())


def test_an_empty_clip_leaves_only_text() -> None:
    out = inject([[1, SLOT, 2]], embed, [clip(0, 0)], SLOT)
    assert out.inputs_embeds[0, :, 0].tolist() == [1, 2]


def test_a_mismatch_is_refused() -> None:
    with pytest.raises(HubError, match=r"1 placeholder\(s\) for 2 audio"):
        inject([[1, SLOT]], embed, [clip(1, 0), clip(1, 0)], SLOT)

"""What the plugins of composite models share: windows, names, accounting; and the details of framed answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from canary_hub.errors import WeightsError
from canary_hub.models.families.backend import eos_ids
from canary_hub.models.families.family import Size
from canary_hub.models.families.parts import todays_name
from canary_hub.models.families.whisper import FRAMES, WhisperLogMel, fold
from canary_hub.run.observe import Observed, segment_trace
from canary_hub.specs import WeightsRef
from canary_hub.weights.checkpoint import Checkpoint


def test_windows_come_back_in_their_rows() -> None:
    lengths = torch.tensor([2 * FRAMES + 10, 0, 7])
    features = torch.arange(3.0)[:, None, None] * 10_000 + torch.arange(2 * FRAMES + 10.0)[None, None]
    windows = fold(features, lengths)
    assert windows.features.shape == (4, 1, FRAMES)
    assert windows.lengths.tolist() == [FRAMES, FRAMES, 10, 7]
    assert windows.features[2, 0, 10:].eq(0).all()
    rows, counts = windows.join(windows.features.transpose(1, 2), windows.lengths)
    assert counts.tolist() == lengths.tolist()
    for row, expected, n in zip(rows, features, lengths.tolist(), strict=True):
        assert torch.equal(row[:n, 0], expected[0, :n])


def test_a_batch_of_nothing_has_no_windows() -> None:
    windows = fold(torch.zeros(2, 4, 0), torch.tensor([0, 0]))
    hidden, counts = windows.join(torch.zeros(0, 5, 3), windows.lengths)
    assert hidden.shape == (2, 0, 3)
    assert counts.tolist() == [0, 0]


def test_windows_are_heard_alone_or_together() -> None:
    quiet, loud = torch.full((30 * 16000,), 1e-4), torch.ones(16000)
    noise = torch.randn(31 * 16000, generator=torch.Generator().manual_seed(0))
    wav = (torch.cat([quiet, loud]) * noise)[None]
    alone, together = (WhisperLogMel(80, joined)(wav, torch.tensor([wav.shape[1]])) for joined in (False, True))
    assert alone[0].shape == together[0].shape == (1, 80, 2 * FRAMES)
    assert alone[1].tolist() == together[1].tolist() == [3100]
    # Together, the loud end lifts the floor under the quiet beginning.
    assert together[0][0, :, :2000].min() > alone[0][0, :, :2000].min() + 0.5


@pytest.mark.parametrize(
    ("older", "today"),
    [
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("language_model.model.layers.0.mlp.up_proj.weight", "model.language_model.layers.0.mlp.up_proj.weight"),
        ("audio_tower.conv1.bias", "model.audio_tower.conv1.bias"),
        ("multi_modal_projector.linear.weight", "model.multi_modal_projector.linear.weight"),
        ("encoder.out.bias", "model.encoder.out.bias"),
        ("model.language_model.norm.weight", "model.language_model.norm.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ],
)
def test_older_names_are_todays(older: str, today: str) -> None:
    assert todays_name(older) == today


def test_a_size_is_found_under_either_name_or_is_the_default() -> None:
    size = Size(("audio_config.d_model", "audio_config.hidden_size"), 1280)
    assert size.of({"audio_config": {"hidden_size": 3}}) == 3
    assert size.of({"audio_config": {"d_model": 4}}) == 4
    assert size.of({}) == 1280
    with pytest.raises(WeightsError, match="text_config"):
        Size(("text_config.hidden_size",)).of({})


def test_the_ids_that_end_an_answer(tmp_path: Path) -> None:
    checkpoint = Checkpoint(WeightsRef(path=tmp_path))
    for written, expected in (([5, 7], (5, 7)), (9, (9,))):
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": written}))
        assert eos_ids(checkpoint) == expected
    (tmp_path / "generation_config.json").write_text("{}")
    with pytest.raises(WeightsError, match="no eos_token_id"):
        eos_ids(checkpoint)


class SaysTheLanguage:
    """A backend that writes the language in front of the words."""

    placeholder_id = 9
    eos_ids = (0,)
    texts = ("", " English", "<tag>", "one", " two", "language", "", "", "", "<audio>")

    def tokenize(self, segments: object) -> list[int]:
        return [9]

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*ids.shape, 4)

    def generate(self, *args: object) -> None:
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.texts[id] for id in ids)

    def left_out(self, ids: Sequence[int]) -> int:
        return list(ids).index(2) + 1


def test_words_are_of_the_text_alone_and_inside_the_clip() -> None:
    ids = [5, 1, 2, 3, 4, 0]
    choices = Observed(slice(0, 30), [1.0] * 6, [0.0] * 6, [[]] * 6)
    looks = torch.eye(30)[[0, 0, 0, 2, 28, 29]]  # the last ones into the padding behind the clip
    choices.attention = [look[None] for look in looks]
    features = torch.randn(8, 100, generator=torch.Generator().manual_seed(0))
    trace = segment_trace(SaysTheLanguage(), (3.0, 4.0), [9], features, torch.ones(30, 4), ids, choices, 0.1)
    assert trace.frame_seconds == 0.1
    assert [(word.text, word.first, word.stop) for word in trace.words] == [("one", 3, 4), ("two", 4, 5)]
    assert all(3.0 <= word.start <= word.end <= 4.0 for word in trace.words)

"""Component canary/log-mel against an independent computation of NeMo's features."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import load_file
from transformers import ParakeetFeatureExtractor

from canary_hub import Hub
from canary_hub.specs import StackSpec, Stage


@pytest.fixture(scope="module")
def log_mel(hub: Hub, tiny_spec: StackSpec):
    with hub.load(tiny_spec, dtype="float32", device="cpu") as stack:
        yield stack.component(Stage.PREPROCESSOR)


def clip(oracle: Path, name: str) -> torch.Tensor:
    return torch.from_numpy(soundfile.read(oracle / "audio" / f"{name}.wav", dtype="float32")[0])


def test_equals_the_extractor_with_the_checkpoints_buffers(log_mel, oracle: Path, monkeypatch) -> None:
    weights = load_file(oracle / "checkpoint" / "model.safetensors")
    window = weights["perception.preprocessor.featurizer.window"].float()
    reference = ParakeetFeatureExtractor(feature_size=128)
    reference.mel_filters = weights["perception.preprocessor.featurizer.fb"][0].float()
    monkeypatch.setattr(torch, "hann_window", lambda *args, **kwargs: window)
    wav = clip(oracle, "slice1p3")
    expected = reference([wav.numpy()], sampling_rate=16000)["input_features"].transpose(1, 2)
    features, lengths = log_mel(wav[None], torch.tensor([len(wav)]))
    assert torch.equal(features, expected)
    assert lengths.tolist() == [len(wav) // 160]


def test_padding_in_a_batch_changes_nothing(log_mel, oracle: Path) -> None:
    clips = [clip(oracle, name) for name in ("b0", "b1", "b2")]
    lengths = torch.tensor([len(c) for c in clips])
    batch, frames = log_mel(torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), lengths)
    for i, wav in enumerate(clips):
        alone, n = log_mel(wav[None], torch.tensor([len(wav)]))
        assert n.tolist() == [frames[i]]
        torch.testing.assert_close(batch[i, :, : n[0]], alone[0, :, : n[0]], atol=2e-4, rtol=0)
        assert not batch[i, :, n[0] :].any()


def test_one_frame_is_zero_not_nan(log_mel) -> None:
    features, lengths = log_mel(torch.randn(1, 170), torch.tensor([170]))
    assert lengths.tolist() == [1]
    assert not features.any()

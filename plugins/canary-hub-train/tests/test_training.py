"""A stopped and resumed training equals an uninterrupted one; the export is the published layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from canary_hub_train import losses, recipes
from canary_hub_train.data import Batch, Spoken
from canary_hub_train.export import checkpoint_config, export, load_exported
from canary_hub_train.features import LogMel, moved_formants
from canary_hub_train.phones import PAUSE, PHONES
from canary_hub_train.state import StateFile
from canary_hub_train.tokenizer import Coder
from canary_hub_train.training import Job, Trainer, build, train
from canary_hub_train.transcribe import transcribe
from safetensors.torch import load_file

from canary_hub.errors import HubError
from canary_hub.models.canary_qwen import layout


def short(job: Job, state: Path) -> Job:
    phases = tuple(replace(phase, steps=4) for phase in job.recipe.phases)
    (state / "llm").mkdir(parents=True)
    for file in (job.state / "llm").iterdir():
        (state / "llm" / file.name).write_bytes(file.read_bytes())
    return replace(job, recipe=replace(job.recipe, phases=phases), state=state)


def weights(job: Job) -> dict[str, torch.Tensor]:
    state = StateFile(job.state, job.recipe.name).read(torch.device("cpu"))
    assert state is not None
    found: dict[str, torch.Tensor] = state["model"]
    return found


def test_resuming_equals_not_stopping(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = short(job, tmp_path / "whole"), short(job, tmp_path / "broken")
    assert train(whole)
    real, calls = Trainer._share, 0

    def stop_at_times(self: Trainer, parameters: list[torch.nn.Parameter]) -> bool:
        nonlocal calls
        calls += 1
        return real(self, parameters) or calls in (2, 6, 11, 15)

    monkeypatch.setattr(Trainer, "_share", stop_at_times)
    sittings = 1
    while not train(broken):
        sittings += 1
    assert sittings >= 4
    one, two = weights(whole), weights(broken)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_an_averaged_phase_ends_with_the_mean_of_before_and_after(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = short(job, tmp_path / "sizes").recipe.phases

    def trained(name: str, *phases: recipes.Phase) -> dict[str, torch.Tensor]:
        one = short(job, tmp_path / name)
        one = replace(one, recipe=replace(one.recipe, phases=phases))
        while not train(one):
            pass
        return weights(one)

    more = replace(first, label="more")
    before, after = trained("before", first), trained("after", first, more)
    real, calls = Trainer._share, 0

    def stop_in_the_middle(self: Trainer, parameters: list[torch.nn.Parameter]) -> bool:
        nonlocal calls
        calls += 1
        return real(self, parameters) or calls == 6

    monkeypatch.setattr(Trainer, "_share", stop_in_the_middle)
    mean = trained("mean", first, replace(more, averaged=True))
    assert calls == 8
    for name, value in mean.items():
        if value.is_floating_point():
            assert torch.equal(value, (before[name] + after[name]) / 2), name


def test_a_state_of_another_recipe_is_refused(job: Job) -> None:
    quick = replace(job, recipe=replace(job.recipe, phases=job.recipe.phases[:1]))
    assert train(quick)
    with pytest.raises(HubError, match="recipe"):
        train(replace(quick, recipe=replace(quick.recipe, name="open")))


def test_the_export_is_the_published_layout_and_is_heard(job: Job, tmp_path: Path) -> None:
    model = build(job, Coder(job.state / "llm")).eval()
    with torch.no_grad():  # a fresh adapter's B is zero and would hide a mistake
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    out = export(model, job.state / "llm", tmp_path / "out")
    tensors = load_file(out / "model.safetensors")
    expected = layout.checkpoint_shapes(checkpoint_config(model.sizes), model.sizes.llm_config())
    assert {name: tuple(t.shape) for name, t in tensors.items()} == expected
    for name, tensor in tensors.items():
        assert tensor.dtype == (torch.int64 if name.endswith("num_batches_tracked") else torch.bfloat16)
    back = load_exported(out)
    for name, tensor in model.state_dict().items():
        if name.startswith(("encoder.", "proj.", "llm.")) and tensor.is_floating_point():
            assert torch.equal(back.state_dict()[name], tensor.to(torch.bfloat16).float()), name
    clips = [np.zeros(n, np.float32) for n in (400, 16_000)]
    assert len(transcribe(back, clips)) == 2


def test_the_features_are_the_extractors(job: Job) -> None:
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(n).astype(np.float32) * 0.1 for n in (8000, 16_123)]
    mel = LogMel()
    wanted = mel(clips, sampling_rate=16_000)
    wav = torch.zeros(2, 16_123)
    for row, clip in enumerate(clips):
        wav[row, : len(clip)] = torch.from_numpy(clip)
    features, mask = mel.features(wav, torch.tensor([8000, 16_123]))
    assert torch.equal(mask, wanted.attention_mask)
    assert torch.allclose(features, wanted.input_features, atol=1e-4)


def test_moved_formants_keep_the_harmonics() -> None:
    """The matrix stretches a log-mel's envelope along the frequencies and leaves its fine structure where it is."""
    bands = torch.arange(128)
    bump = torch.exp(-(((bands - 60) / 12.0) ** 2))
    harmonics = 0.3 * torch.cos(torch.pi * 100 * (bands + 0.5) / 128)
    moved = (bump + harmonics) @ moved_formants(torch.tensor([1.15]))[0]
    envelope = moved - harmonics
    assert envelope.argmax() in range(66, 78)  # 15 % higher in Hz
    assert envelope.max() == pytest.approx(1.0, abs=0.05)
    assert torch.allclose(moved_formants(torch.tensor([1.0]))[0], torch.eye(128), atol=1e-4)


def test_phones_are_learnt_where_they_are_said(job: Job) -> None:
    """The frame-wise loss is small for a head that knows the phone of each 27 ms, and for no other."""
    model = build(job, Coder(job.state / "llm")).eval()
    clip = Spoken(np.zeros(16_000, np.float32), "one two", np.array([5, 9]), np.array([0.4, 0.8]))
    batch = Batch(clip.wav[None], np.array([16_000]), ["one two"], [clip], None)
    truth = torch.tensor([5 if t < 0.4 else 9 if t < 0.8 else PAUSE for t in (np.arange(39) - 1) * 0.08 / 3])
    sure = 20.0 * torch.nn.functional.one_hot(truth, len(PHONES)).float()[None]
    model.phone_logits = lambda _: sure
    assert losses.phones(model, (), batch) < 1e-3
    model.phone_logits = lambda _: sure.roll(6, 1)
    assert losses.phones(model, (), batch) > 1


def test_a_checkpoint_can_be_started_from(job: Job, tmp_path: Path) -> None:
    before = build(job, Coder(job.state / "llm"))
    out = export(before, job.state / "llm", tmp_path / "out")
    trainer = Trainer(0, replace(job, start_from=out))
    assert job.recipe.phases[trainer.progress.phase].name == "ctc"  # an encoder that hears needs no flat start
    for name, tensor in trainer.model.encoder.state_dict().items():
        assert torch.equal(tensor, load_exported(out).encoder.state_dict()[name]), name
    with pytest.raises(HubError):
        Trainer(0, replace(job, start_from=tmp_path))
    trainer = Trainer(0, replace(job, go_on_from=out))
    assert job.recipe.phases[trainer.progress.phase].name == "joint"
    for name, tensor in trainer.model.llm.state_dict().items():
        assert torch.equal(tensor, load_exported(out).llm.state_dict()[name]), name


def test_the_shipped_sizes_fit_twelve_megabytes(job: Job) -> None:
    config = checkpoint_config(recipes.DIGITS.sizes)
    shapes = layout.checkpoint_shapes(config, recipes.DIGITS.sizes.llm_config())
    assert 2 * sum(int(np.prod(shape)) for shape in shapes.values()) < 12_000_000

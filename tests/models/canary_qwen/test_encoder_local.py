"""Limited-context attention against transformers' own full attention, NeMo's goldens and a band mask."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import soundfile
import torch
from click.testing import CliRunner
from conftest import ORACLE
from safetensors.torch import load_file
from torch.profiler import ProfilerActivity, profile

from canary_hub import Hub
from canary_hub.cli import main
from canary_hub.errors import HubError
from canary_hub.models.canary_qwen import encoder as fastconformer
from canary_hub.models.canary_qwen import encoder_local as fastconformer_local
from canary_hub.models.canary_qwen.encoder_local import by_key
from canary_hub.models.canary_qwen.options import FastConformerLocalBuild
from canary_hub.specs import Stage, WeightsRef
from canary_hub.stages import Build
from canary_hub.weights.checkpoint import Checkpoint

LOCAL = {Stage.ENCODER: "canary/fastconformer-local"}
FRAMES = torch.tensor([2600, 1701, 64])
"""Lengths in log-mel frames: 325, 213 and 8 encoder frames, so three blocks of queries, and a row that is nearly
all padding."""

Encode = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture
def many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The subsampling of clips this short takes several pieces too, the last one a remainder."""
    monkeypatch.setattr(fastconformer_local, "SUBSAMPLED", 50)


@pytest.fixture(scope="module")
def full() -> torch.Tensor:
    """What full attention makes of the noise."""
    return build()(noise(2600, rows=3), FRAMES)[0]


def build(dtype: str = "float32", left: int | None = None, right: int | None = None) -> Encode:
    """The oracle's encoder; with contexts, the local one."""
    weights = {"canary": ORACLE / "checkpoint", "canary-llm": ORACLE / "llm"}
    checkpoints = {role: Checkpoint(WeightsRef(path=path)) for role, path in weights.items()}
    if left is None or right is None:
        return fastconformer.build(Build(FastConformerLocalBuild(), checkpoints, dtype))
    options = FastConformerLocalBuild(left_context=left, right_context=right)
    return fastconformer_local.build(Build(options, checkpoints, dtype))


def banded(encode: fastconformer.FastConformer, left: int, right: int) -> Encode:
    """transformers' attention over all pairs of frames, those outside the band masked."""

    def narrow(module: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        at = torch.arange(kwargs["hidden_states"].shape[1])
        distance = at[:, None] - at
        band = (distance <= left) & (distance >= -right)
        return args, kwargs | {"attention_mask": kwargs["attention_mask"] & band}

    for layer in encode.module.layers:
        layer.self_attn.register_forward_pre_hook(narrow, with_kwargs=True)
    return encode


def noise(frames: int, rows: int = 1) -> torch.Tensor:
    """(rows, 128, frames + 1): as from the preprocessor, with one frame of padding at least."""
    return torch.randn(rows, 128, frames + 1, generator=torch.Generator().manual_seed(0))


def difference(one: torch.Tensor, other: torch.Tensor, lengths: torch.Tensor) -> float:
    """The largest, padding left out."""
    return max(float((one[i, :n] - other[i, :n]).abs().max()) for i, n in enumerate(lengths.tolist()))


@pytest.mark.usefixtures("many_pieces")
def test_equals_full_attention_where_the_window_covers_the_clip(full: torch.Tensor) -> None:
    got, lengths = build(left=5000, right=324)(noise(2600, rows=3), FRAMES)
    assert lengths.tolist() == [325, 213, 8]
    assert got.shape == full.shape
    assert difference(got, full, lengths) < 1e-5


@pytest.mark.usefixtures("many_pieces")
@pytest.mark.parametrize(("left", "right"), [(64, 64), (5, 3), (1, 150), (200, 2), (0, 4), (7, 0), (0, 0)])
def test_equals_all_pairs_under_a_band_mask(left: int, right: int, full: torch.Tensor) -> None:
    features = noise(2600, rows=3)
    expected, lengths = banded(build(), left, right)(features, FRAMES)
    got, _ = build(left=left, right=right)(features, FRAMES)
    assert got.isfinite().all()
    assert difference(got, expected, lengths) < 1e-5
    assert difference(got, full, lengths) > 0.1  # the band matters on these clips


@pytest.mark.parametrize("name", ["long34", "batch3", "frame1", "mult1280"])
def test_equals_nemo_on_real_audio(name: str, tmp_path) -> None:
    golden = load_file(ORACLE / "golden" / f"{name}.safetensors")
    clips = ["b0", "b1", "b2"] if name == "batch3" else [name]
    hub = Hub(tmp_path, allow=())
    spec = hub.stack(
        "canary-qwen-2.5b",
        components=LOCAL,
        options={"left_context": 500, "right_context": 500},
        weights={"canary": ORACLE / "checkpoint", "canary-llm": ORACLE / "llm"},
    )
    with hub.load(spec, dtype="float32", device="cpu") as stack:
        waves = [
            torch.from_numpy(soundfile.read(ORACLE / "audio" / f"{clip}.wav", dtype="float32")[0]) for clip in clips
        ]
        wav, lengths = torch.nn.utils.rnn.pad_sequence(waves, True), torch.tensor([len(wave) for wave in waves])
        for stage in (Stage.PREPROCESSOR, Stage.ENCODER, Stage.PROJECTOR):
            wav, lengths = stack.component(stage)(wav, lengths)
    assert lengths.tolist() == golden["enc_len"].tolist()
    if "perception" in golden:
        assert difference(wav, golden["perception"], lengths) < 2e-5
    else:  # the long case keeps both ends only
        head, tail = golden["perception_head"], golden["perception_tail"]
        n, rows = int(lengths[0]), head.shape[1]
        torch.testing.assert_close(wav[:, :rows], head, atol=2e-5, rtol=0)
        torch.testing.assert_close(wav[:, n - rows : n], tail[:, -rows:], atol=2e-5, rtol=0)


@pytest.mark.usefixtures("many_pieces")
def test_rows_of_a_batch_equal_the_rows_alone() -> None:
    features = noise(2600, rows=3)
    encode = build(left=20, right=10)
    together, lengths = encode(features, FRAMES)
    for i, (frames, n) in enumerate(zip(FRAMES.tolist(), lengths.tolist(), strict=True)):
        alone, _ = encode(features[i : i + 1, :, : frames + 1], FRAMES[i : i + 1])
        assert difference(alone, together[i : i + 1], torch.tensor([n])) < 1e-5


def test_bfloat16_stays_near_float32(full: torch.Tensor) -> None:
    features = noise(2600, rows=3)
    expected, lengths = build(left=20, right=10)(features, FRAMES)
    got, _ = build("bfloat16", left=20, right=10)(features, FRAMES)
    noise_of_full = difference(build("bfloat16")(features, FRAMES)[0].float(), full, lengths)
    assert got.dtype == torch.bfloat16
    assert difference(got.float(), expected, lengths) < 2 * noise_of_full


def test_a_frame_is_out_of_reach_behind_every_layers_context() -> None:
    """Three layers, contexts (2, 1), and convolutions of 9 (4 to each side) after each attention."""
    encode = build(left=2, right=1)
    features = noise(800)
    before, _ = encode(features, torch.tensor([800]))
    features[..., 400:408] += 1.0  # frame 50, and by the subsampling its neighbours
    after, _ = encode(features, torch.tensor([800]))
    moved = (before != after).any(-1)[0].nonzero()[:, 0]
    assert 49 - 3 * (1 + 4) <= int(moved[0]) < 50 < int(moved[-1]) <= 51 + 3 * (2 + 4)


def test_scores_by_distance_land_on_their_keys() -> None:
    got = by_key(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), -9.0)
    assert got.tolist() == [[1, 2, -9, -9], [-9, 3, 4, -9], [-9, -9, 5, 6]]


def peak_bytes(encode: Encode, seconds: int) -> int:
    """The most that is allocated at any moment beyond weights and input, as PyTorch's allocator records it."""
    features, frames = noise(100 * seconds), torch.tensor([100 * seconds])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        encode(features, frames)
    live = peak = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak


def test_memory_grows_with_the_length_and_not_its_square() -> None:
    local, full = build(left=128, right=128), build()
    at_160, at_320, at_640 = (peak_bytes(local, seconds) for seconds in (160, 320, 640))
    assert at_640 - at_320 < 2.2 * (at_320 - at_160)
    assert at_640 < 8000**2  # less than one bool for each pair of its 8000 frames
    full_30, full_60, full_120 = (peak_bytes(full, seconds) for seconds in (30, 60, 120))
    assert full_120 - full_60 > 3 * (full_60 - full_30)  # the measure sees a square


def test_five_minutes_in_one_piece() -> None:
    hidden, lengths = build(left=128, right=128)(noise(30_000), torch.tensor([30_000]))
    assert hidden.shape == (1, 3751, 64)
    assert lengths.tolist() == [3750]
    assert hidden.isfinite().all()


def test_a_stack_with_a_wider_window_takes_long_audio_in_one_segment(tmp_path) -> None:
    hub = Hub(tmp_path, allow=())
    with pytest.raises(HubError, match="of no use"):
        hub.stack("nano", window=0.01)
    with hub.load(hub.stack("nano", components=LOCAL, window=300.0), device="cpu") as stack:
        result = stack.transcribe(ORACLE / "audio" / "long34.wav", max_new_tokens=2)
    (segment,) = result.segments
    assert segment.audio_frames == pytest.approx(result.duration * 12.5, abs=1)


def test_options_are_checked_and_shown(tmp_path) -> None:
    hub = Hub(tmp_path, allow=())
    with pytest.raises(HubError, match=r"left_context: .*greater than or equal to 0"):
        hub.load("nano", components=LOCAL, options={"left_context": -1})
    shown = CliRunner().invoke(main, ["components", "canary/fastconformer-local"])
    assert shown.exit_code == 0
    assert "right_context" in shown.output

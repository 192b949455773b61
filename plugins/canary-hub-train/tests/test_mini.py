"""`mini`: what it is made of, in miniature."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from canary_hub_train import ctranslate2
from canary_hub_train.mini import shards
from canary_hub_train.mini.batches import Codec, Speech, collate, lay_out
from canary_hub_train.mini.clips import Clip, joined, slip
from canary_hub_train.mini.copying import Copying, slot_frames
from canary_hub_train.mini.ears import hear, log_mel, padded
from canary_hub_train.mini.measure import read_ctc, read_shards, report
from canary_hub_train.mini.model import build
from canary_hub_train.mini.places import Places, smaller, telephone
from canary_hub_train.mini.state import StateFile
from canary_hub_train.mini.text import Capitals, plain, read_sentences, sayable, written
from canary_hub_train.mini.training import SMALL, Job, run
from canary_hub_train.tokenizer import train_tokenizer

from canary_hub.errors import HubError, WeightsError

SENTENCES = [
    "The captain was watching the sea.",
    "Nobody answered him, not even Mary.",
    "We shall see what London makes of it.",
    "Is there any bread left?",
    "She said that London was far away.",
]


def test_a_curly_sentence_becomes_plain() -> None:
    assert plain("\u201cYes\u2014no,\u201d  she\u2019d said") == '"Yes, no," she\'d said'
    assert sayable(SENTENCES[0])
    assert not sayable("Se\u00f1or, 1 2 3 4 5 6 7 8 9")


def test_capitals_come_back_as_the_corpus_has_them() -> None:
    capitals = Capitals(SENTENCES)
    assert written("WE SEE MARY AND I SEE LONDON", capitals) == "We see Mary and I see London."
    assert written("RUBOUT U G A M THIRTY NINE", capitals) == "Rubout U G A M thirty nine."
    assert written("And so it was,", capitals) == "And so it was."
    assert written("Was it?", capitals) == "Was it?"


def test_sentences_of_the_dev_set_are_left_out(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "s.tsv.gz"
    with gzip.open(path, "wt") as file:
        file.write("source\tlicence\tsentence\n" + "".join(f"x\ty\t{s}\n" for s in [*SENTENCES, SENTENCES[0]]))
    assert read_sentences(path, ["nobody answered him not even mary"]) == [SENTENCES[0], *SENTENCES[2:]]
    with pytest.raises(HubError):
        read_sentences(tmp_path / "none.gz")


def test_a_slip_keeps_the_sentence() -> None:
    said = slip(SENTENCES[0], np.random.default_rng(0))
    assert said.endswith(SENTENCES[0])
    assert said != SENTENCES[0]


def test_rooms_lines_and_pauses_keep_the_length() -> None:
    rng = np.random.default_rng(0)
    wav = rng.standard_normal(16_000).astype(np.float32) * 0.1
    assert Places(None).put(wav, rng).shape == wav.shape
    assert telephone(wav, rng).shape == wav.shape
    assert smaller(wav, rng)[:32] == pytest.approx(wav[:32])
    assert len(joined([wav, wav], rng)) > 2 * len(wav)


def _ct2(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """A CTranslate2 file as its writer makes it."""

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    kinds = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
    out = struct.pack("<I", 6) + string("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, value in tensors.items():
        out += string(name) + struct.pack("<B", value.ndim) + struct.pack(f"<{value.ndim}I", *value.shape)
        out += struct.pack("<BI", kinds[str(value.dtype)], value.nbytes) + value.tobytes()
    alias = string("decoder/projection/weight") + string("decoder/embeddings/weight")
    path.write_bytes(out + struct.pack("<I", 1) + alias)


def _stacked(state: dict[str, torch.Tensor], at: str, letters: str, kind: str) -> np.ndarray:
    parts = []
    for letter in letters:
        name = f"{at}.{'out' if letter == 'o' else letter}_proj.{kind}"
        like = state[f"{at}.q_proj.{kind}"]
        parts.append(state[name] if name in state else torch.zeros_like(like))
    return torch.cat(parts).numpy()


def test_a_ctranslate2_whisper_comes_back_whole(tmp_path: Path) -> None:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    small = WhisperConfig(
        vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_target_positions=8, pad_token_id=1,
        bos_token_id=1, eos_token_id=1, decoder_start_token_id=2,
    )  # fmt: skip
    state = WhisperForConditionalGeneration(small).state_dict()
    tensors: dict[str, np.ndarray] = {}
    for side in ("encoder", "decoder"):
        for kind, theirs in (("weight", "gamma"), ("bias", "beta")):
            tensors[f"{side}/layer_norm/{theirs}"] = state[f"model.{side}.layer_norm.{kind}"].numpy()
            at = f"model.{side}.layers.0"
            layer = f"{side}/layer_0"
            for block, norm in (
                ("self_attention", "self_attn_layer_norm"),
                ("attention", "encoder_attn_layer_norm"),
                ("ffn", "final_layer_norm"),
            ):
                if f"{at}.{norm}.{kind}" in state:
                    tensors[f"{layer}/{block}/layer_norm/{theirs}"] = state[f"{at}.{norm}.{kind}"].numpy()
            for i, letters in enumerate(("qkv", "o")):
                tensors[f"{layer}/self_attention/linear_{i}/{kind}"] = _stacked(state, f"{at}.self_attn", letters, kind)
            if side == "decoder":
                for i, letters in enumerate(("q", "kv", "o")):
                    stacked = _stacked(state, f"{at}.encoder_attn", letters, kind)
                    tensors[f"{layer}/attention/linear_{i}/{kind}"] = stacked
            for i in (0, 1):
                tensors[f"{layer}/ffn/linear_{i}/{kind}"] = state[f"{at}.fc{i + 1}.{kind}"].numpy()
        positions = state[f"model.{side}.embed_positions.weight"].numpy()
        tensors[f"{side}/position_encodings/encodings"] = positions
    for i in (1, 2):
        for kind in ("weight", "bias"):
            tensors[f"encoder/conv{i}/{kind}"] = state[f"model.encoder.conv{i}.{kind}"].numpy()
    tensors["encoder/num_heads"] = np.array(2, np.int16)
    tensors["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"].numpy()
    _ct2(tmp_path / "model.bin", tensors)
    found = ctranslate2.load_whisper(tmp_path).state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())
    whole = (tmp_path / "model.bin").read_bytes()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "model.bin.part1").write_bytes(whole[:1001])
    with pytest.raises(WeightsError, match="part missing"):
        ctranslate2.load_whisper(tmp_path / "parts")
    (tmp_path / "parts" / "model.bin.part2").write_bytes(whole[1001:])
    assert ctranslate2.load_whisper(tmp_path / "parts").state_dict().keys() == state.keys()


def test_ears_hear_30_seconds_as_transformers_does() -> None:
    from transformers import WhisperConfig, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    torch.manual_seed(0)
    config = WhisperConfig(d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32)
    encoder = WhisperEncoder(config).eval()
    wav = np.random.default_rng(0).standard_normal(480_000).astype(np.float32) * 0.1
    mel = WhisperFeatureExtractor()(wav, sampling_rate=16_000, return_tensors="pt").input_features
    assert log_mel(torch.from_numpy(wav)) == pytest.approx(mel[0], abs=1e-4)
    with torch.inference_mode():
        whole = encoder(mel).last_hidden_state[0]
    assert torch.allclose(hear(encoder, wav).float(), whole, atol=5e-3)
    assert hear(encoder, wav[:20_000]).shape == (64, 16)
    assert len(padded(wav[:1])) == 1280


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and two shards of clips that say their text in a made-up way."""
    place = tmp_path_factory.mktemp("mini")
    train_tokenizer(SENTENCES * 5, place / "llm", SMALL.sizes.vocabulary)
    rng = np.random.default_rng(0)
    for kind in ("machine", "human", "dev", "unseen"):
        path = shards.shard_path(place / "speech", kind, 0)
        path.parent.mkdir(exist_ok=True)
        clips = [Clip(np.zeros(16_000 + 3_200 * i, np.float32), SENTENCES[i % 5], "v", "vctk") for i in range(8)]
        clips.append(Clip(np.zeros(16_000, np.float32), "", "nobody", "nobody"))
        states = [torch.from_numpy(rng.standard_normal((50 + 12 * i - i % 4 * 0, 384))).half() for i in range(9)]
        states = [s[: len(s) // 4 * 4] for s in states]
        shards.write_shard(path, zip(clips, states, strict=True))
    return place


def test_a_batch_is_laid_out_as_the_chat_prompt(folder: Path) -> None:
    codec = Codec(folder / "llm")
    model = build(SMALL.sizes)
    ids = codec.encode(["The sea.", "Is there any bread left?"])
    rng = np.random.default_rng(0)
    batch = collate([(rng.standard_normal((m, 1536)).astype(np.float16), i) for m, i in zip((3, 5), ids, strict=True)])
    laid = lay_out(model.table, model.proj(batch.audio.float()), batch, codec)
    for row, m, text in zip(laid.targets, (3, 5), ids, strict=True):
        start = len(codec.before) + m + len(codec.after) - 1
        assert row[start : start + len(text) + 1].tolist() == [*text, codec.end]
        assert int((row != -100).sum()) == len(text) + 1
    assert torch.equal(laid.embeds[0, 0], model.table[codec.before[0]])
    prompt = codec.decode(codec.before) + "|" + codec.decode(codec.after)
    assert prompt == "user\nTranscribe the following:|assistant"


def test_the_slot_holds_the_text(folder: Path) -> None:
    codec = Codec(folder / "llm")
    copying = Copying(codec, SENTENCES, SMALL.sizes.vocabulary - 1, 512)
    batch, second, share = next(copying.batches(0, SMALL.sizes.vocabulary, pool=8))
    assert batch.audio.shape == second.shape == share.shape
    frames = slot_frames(build(SMALL.sizes).table, batch.audio, second, share)
    assert frames.shape == (*batch.audio.shape, SMALL.sizes.hidden)


def test_speech_is_drawn_and_read(folder: Path) -> None:
    codec = Codec(folder / "llm")
    speech = Speech(folder / "speech", codec, budget=600)
    batch = next(speech.pools(0, size=16))
    assert batch.audio.shape[2] == 1536
    model = build(SMALL.sizes)
    reads = read_shards(model, [shards.Shard(shards.find_shards(folder / "speech", "dev")[0])], codec)
    assert len(reads) == 9
    found = report(reads, str.lower)
    assert found["people"] > 50
    assert found["invented"] in (0, 1)
    frames = model.table[torch.tensor([[5, 5, model.blank, 5, 7]])] * 0
    assert len(read_ctc(model, frames, torch.tensor([5]))) == 1


def test_training_goes_through_its_phases_and_goes_on(folder: Path) -> None:
    import time

    job = Job(SMALL, folder, SENTENCES, until=time.monotonic() + 1, say=lambda _: None)
    assert not run(job)
    state = StateFile(folder).read(SMALL.sizes)
    assert state is not None
    assert run(Job(SMALL, folder, SENTENCES, say=lambda _: None))
    state = StateFile(folder).read(SMALL.sizes)
    assert state is not None
    assert state["progress"].phase == "cool"
    assert "people" in (folder / "curve.jsonl").read_text().splitlines()[-1]


def test_the_exported_files_are_the_model(folder: Path, tmp_path: Path) -> None:
    from canary_hub_train.mini.export import export, load_exported

    model = build(SMALL.sizes)
    back = load_exported(export(model, folder / "llm", tmp_path)).state_dict()
    for name, value in model.state_dict().items():
        if not name.startswith("ctc_"):
            assert back[name] == pytest.approx(value.detach(), rel=0.02, abs=2e-3), name
    from safetensors import safe_open

    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert {"embed_tokens.weight", "perception.proj.outer.weight"} <= names
    assert "llm.base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight" in names
    assert not any(name.startswith("perception.encoder") for name in names)


def test_the_command_says_what_part_it_takes(tmp_path: Path) -> None:
    from canary_hub_train.command import train
    from click.testing import CliRunner

    said = CliRunner().invoke(train, ["mini", "--help"])
    assert said.exit_code == 0
    assert "--human-dev" in said.output


def test_the_lean_llm_computes_the_same() -> None:
    from canary_hub_train.mini.lean import make_lean

    plain, lean = build(SMALL.sizes), build(SMALL.sizes)
    make_lean(lean.llm)
    x, targets = torch.randn(3, 20, SMALL.sizes.hidden), torch.randint(0, 500, (3, 20))
    found = []
    for model in (plain, lean):
        loss = model.text_loss(model.hidden_states(x), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        attention = model.llm.model.layers[0].self_attn
        found.append((loss.detach(), attention.k_proj.weight.grad, attention.q_norm.weight.grad))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*found, strict=True))

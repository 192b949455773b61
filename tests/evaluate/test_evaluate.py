"""`canary-hub eval`: manifests, results that survive a kill, numbers equal to jiwer's, intervals, comparisons."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
from conftest import ROOT
from whisper_normalizer.english import EnglishTextNormalizer

from canary_hub import Hub
from canary_hub.cli import main
from canary_hub.compare.scoring import Edits
from canary_hub.errors import HubError, OptionError
from canary_hub.evaluate import open_manifest
from canary_hub.evaluate.bootstrap import difference, interval
from canary_hub.evaluate.identity import identity
from canary_hub.evaluate.results import ResultsFile, UtteranceResult
from canary_hub.evaluate.utterance import Utterance
from canary_hub.lanes import Lane, parse_lane
from canary_hub.specs import Stage, WeightsRef
from canary_hub.weights.checkpoint import Checkpoint

DIGITS = {path.stem: path for path in sorted((ROOT / "tests" / "digits").glob("*.flac"))}
RATE = 16000


def make_clips(folder: Path, count: int, words: int = 2) -> Path:
    """Spoken digits in a row, some under noise, with a manifest in which some references are wrong."""
    rng, noise = random.Random(count), np.random.default_rng(count)
    folder.mkdir(parents=True)
    lines = []
    for number in range(count):
        said = rng.choices(sorted(DIGITS), k=rng.randint(1, words))
        samples = np.concatenate([soundfile.read(DIGITS[digit], dtype="float32")[0] for digit in said])
        if number % 4 == 1:
            samples += noise.normal(0, 0.1, len(samples)).astype(np.float32)
        if number % 5 == 2:
            said = [*said[1:], "Eleven,"]
        soundfile.write(folder / f"{number}.wav", samples, RATE)
        row = {"audio_filepath": f"{number}.wav", "duration": len(samples) / RATE, "text": " ".join(said)}
        lines.append(json.dumps(row) + "\n")
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(lines))
    return manifest


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("few") / "clips", 10)


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, ["eval", *map(str, arguments)])
    assert "Traceback" not in result.output
    return result


def rows_of(out: Path, pattern: str = "*.jsonl") -> list[dict]:
    (file,) = out.glob(pattern)
    return [json.loads(line) for line in file.read_text().splitlines()[1:]]


def rates_of(report: dict) -> list:
    return [(stack["stack"], stack["utterances"], stack["rates"]) for stack in report["stacks"]]


# Interruption


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_killed_at_a_random_moment_it_goes_on_to_identical_totals(tmp_path: Path) -> None:
    manifest = make_clips(tmp_path / "clips", 60, words=1)
    rng = random.Random(2020)
    moment = rng.randint(1, 40), rng.random() * 0.05  # rows on the disk, then seconds
    killed = subprocess.Popen(
        [sys.executable, "-m", "canary_hub.cli", "eval", manifest, "--stack", "nano", "--out", tmp_path / "killed"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not any(f.read_bytes().count(b"\n") > moment[0] for f in (tmp_path / "killed").glob("*.jsonl")):
        assert killed.poll() is None
        time.sleep(0.002)
    time.sleep(moment[1])
    killed.kill()
    assert killed.wait() == -signal.SIGKILL, "it was done before it could be killed"
    (file,) = (tmp_path / "killed").glob("*.jsonl")
    before = file.read_bytes()
    there = before.count(b"\n") - 1
    assert 8 <= there < 60

    resumed = run(manifest, "--stack", "nano", "--out", tmp_path / "killed", "--format", "json")
    whole = run(manifest, "--stack", "nano", "--out", tmp_path / "whole", "--format", "json")
    assert resumed.exit_code == whole.exit_code == 0, resumed.output
    assert f"nano: {there} of 60 utterances were there already" in resumed.stderr
    assert file.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    rows = rows_of(tmp_path / "killed")
    assert sorted(row["index"] for row in rows) == list(range(60))  # each once
    texts = {row["index"]: row["hypothesis"] for row in rows}
    assert texts == {row["index"]: row["hypothesis"] for row in rows_of(tmp_path / "whole")}
    assert rates_of(json.loads(resumed.stdout)) == rates_of(json.loads(whole.stdout))
    assert 0.05 < json.loads(whole.stdout)["stacks"][0]["rates"][2]["value"] < 1  # there was something to get wrong


def test_a_torn_last_line_is_survived_wherever_it_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "nano-00000000.jsonl"
    with ResultsFile(path, {"stack": "nano"}) as results:
        for index in range(2):
            results.append([UtteranceResult(index, f"{index}.wav", "één", "een", 1.0, 0.5)])
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with ResultsFile(path, {"stack": "nano"}) as results:
            kept = list(results.rows)
            assert kept == list(range(max(0, content[:size].count(b"\n") - 1)))
            results.append([UtteranceResult(i, f"{i}.wav", "één", "een", 1.0, 0.5) for i in range(2) if i not in kept])
        assert path.read_bytes() == content


def test_a_file_in_use_or_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nano-00000000.jsonl"
    with ResultsFile(path, {}):
        if sys.platform != "win32":
            with pytest.raises(HubError, match="another evaluation"):
                ResultsFile(path, {})
    path.write_text('{}\n{"index": 0}\n')
    with pytest.raises(HubError, match="damaged in line 2"):
        ResultsFile(path, {})


# Numbers


def test_two_stacks_are_measured_and_compared(few: Path, tmp_path: Path) -> None:
    crippled = "nano max_new_tokens=2"
    result = run(few, "--stack", "nano", "--stack", crippled, "--out", tmp_path, "--format", "json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    whisper = EnglishTextNormalizer()
    for pattern, stack in zip(("nano-????????.jsonl", "nano-max*.jsonl"), report["stacks"], strict=True):
        rows = rows_of(tmp_path, pattern)
        assert [row["duration"] for row in rows] == sorted((row["duration"] for row in rows), reverse=True)
        references, hypotheses = [row["reference"] for row in rows], [row["hypothesis"] for row in rows]
        for rate in stack["rates"]:
            prepare = whisper if rate["normalise"] == "whisper" else str
            texts = list(map(prepare, references)), list(map(prepare, hypotheses))
            compute = jiwer.process_words if rate["rate"] == "wer" else jiwer.process_characters
            expected = compute(*texts)
            assert rate["value"] == getattr(expected, rate["rate"])
            for kind in ("hits", "substitutions", "deletions", "insertions"):
                assert rate[kind] == getattr(expected, kind)
            assert rate["low"] <= rate["value"] <= rate["high"]
        assert stack["audio_seconds"] == pytest.approx(sum(row["duration"] for row in rows), abs=0.001)
        assert stack["rtfx"] == pytest.approx(sum(r["duration"] for r in rows) / sum(r["seconds"] for r in rows), 0.01)
    compared = {(c["rate"], c["normalise"]): c for c in report["comparisons"]}
    assert len(compared) == 4
    wer, plain = compared["wer", "raw"], [stack["rates"][2]["value"] for stack in report["stacks"]]
    assert (wer["stack"], wer["against"], wer["utterances"]) == (crippled, "nano", 10)
    assert wer["value"] == pytest.approx(plain[1] - plain[0])
    assert report["stacks"][1]["noted"][0]["note"] == "cut off at its limit of 2 tokens"
    table = list(csv.DictReader((tmp_path / "utterances.csv").open()))
    assert [row["index"] for row in table] == [str(i) for i in range(10)] * 2
    assert sum(int(row["deletions"]) for row in table[:10]) == report["stacks"][0]["rates"][0]["deletions"]
    markdown = run(few, "--stack", "nano", "--stack", crippled, "--out", tmp_path, "--format", "md").stdout
    assert markdown == (tmp_path / "report.md").read_text()
    assert f"|  | nano | {crippled} |\n| --- | ---: | ---: |\n| utterances | 10 | 10 |" in markdown
    assert f"{crippled} against nano: WER +" in markdown
    assert "RTFx" in run(few, "--stack", "nano", "--out", tmp_path).stdout


def test_intervals_hold_the_true_rate_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        wrong = rng.binomial(12, 0.1, 80)
        low, high = interval([Edits(12 - int(n), int(n)) for n in wrong])
        held += low <= 0.1 <= high
    assert 88 <= held <= 99  # 95 expected, standard deviation 2


def test_interval_is_that_of_scipys_bootstrap() -> None:
    from scipy.stats import bootstrap

    rng = np.random.default_rng(2)
    words = rng.integers(3, 30, 100)
    wrong = rng.binomial(words, 0.2)
    edits = [Edits(int(n - k), int(k)) for n, k in zip(words, wrong, strict=True)]
    expected = bootstrap(
        (wrong, words), lambda k, n, axis: k.sum(axis) / n.sum(axis), paired=True, method="percentile", rng=3,
        vectorized=True,
    ).confidence_interval  # fmt: skip
    assert interval(edits) == pytest.approx((expected.low, expected.high), abs=0.003)
    assert interval(edits) == interval(edits)


def test_paired_difference_sees_what_unpaired_intervals_cannot() -> None:
    rng = np.random.default_rng(4)
    hard = rng.binomial(20, rng.beta(0.3, 1, 200))
    ours = [Edits(20 - int(n), int(n)) for n in hard]
    theirs = [Edits(20 - int(n), int(n)) for n in np.minimum(hard + (rng.random(200) < 0.2), 20)]
    found = difference(ours, theirs)
    assert interval(ours).high > interval(theirs).low  # the intervals overlap
    assert found.low <= found.value <= found.high < 0
    assert found.better == 1
    back = difference(theirs, ours)
    assert (back.value, back.better) == (-found.value, 0)
    assert difference(ours, ours) == (0, 0, 0, 0.5)


# What is kept and what is not


def test_a_stack_is_added_without_transcribing_the_first_again(few: Path, tmp_path: Path) -> None:
    run(few, "--stack", "nano", "--out", tmp_path, "--limit", "3")
    (file,) = tmp_path.glob("*.jsonl")
    before = file.read_bytes()
    result = run(few, "--stack", "nano", "--stack", "nano max_new_tokens=3", "--out", tmp_path, "--limit", "3")
    assert file.read_bytes() == before
    assert "nano: 3 of 3 utterances were there already" in result.stderr
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    run(few, "--stack", "nano", "--out", tmp_path, "--limit", "5")
    assert file.read_bytes().startswith(before)
    assert sorted(row["index"] for row in rows_of(tmp_path, file.name)) == [0, 1, 2, 3, 4]


def test_changed_weights_or_code_make_a_stack_another(few: Path, tmp_path: Path) -> None:
    from canary_hub.models.nano import plugin as nano

    weights = tmp_path / "weights"
    shutil.copytree(Path(nano.__file__).parent, weights)
    plugin = tmp_path / "plugins" / "mine.py"
    plugin.parent.mkdir()
    plugin.write_text(
        "from canary_hub.hookspecs import hookimpl\nfrom canary_hub.specs import *\n"
        "class Half:\n    def __call__(self, hidden, lengths):\n        return hidden[..., :128] * 0.5, lengths\n"
        "def build(build): return Half()\n@hookimpl\ndef canary_components():\n"
        "    return [ComponentSpec(Stage.PROJECTOR, 'my/half', __name__ + ':build', Contract((Port('hidden'),),"
        " (Port('embeds'),)))]\n"
    )
    out = tmp_path / "out"

    def files(*more: str) -> tuple[int, str]:
        arguments = (few, "--out", out, "--limit", "1", "--plugins-dir", plugin.parent, *more)
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        return len(list(out.glob("*.jsonl"))), result.stderr

    lane = ("--stack", f'nano weights.canary="{weights}"')
    assert files(*lane)[0] == files(*lane)[0] == 1
    saved = (weights / "model.safetensors").read_bytes()
    (weights / "model.safetensors").write_bytes(saved[:-4] + bytes(4))
    count, said = files(*lane)
    assert count == 2
    assert "is not used: weights changed" in said
    swapped = ("--stack", "nano projector=my/half")
    assert files(*swapped)[0] == 3
    assert "not trained together" in files(*swapped)[1]
    plugin.write_text(plugin.read_text().replace("0.5", "0.25"))
    count, said = files(*swapped)
    assert count == 4
    assert "is not used: code changed" in said


def weights_at(folder: Path, first: int | None = None) -> Path:
    """A folder with nano's weights; with `first`, the tensors begin with that byte: other weights of the same size."""
    shutil.copytree(ROOT / "canary_hub" / "models" / "nano", folder)
    if first is not None:
        file = folder / "model.safetensors"
        content = bytearray(file.read_bytes())
        content[8 + int.from_bytes(content[:8], "little")] = first
        file.write_bytes(content)
    return folder


def test_weights_count_with_their_content_and_not_with_the_folders_name(few: Path, tmp_path: Path) -> None:
    hub = Hub(tmp_path / "none")
    llm = ROOT / "canary_hub" / "models" / "nano" / "llm"
    one, two = weights_at(tmp_path / "one" / "x", 1), weights_at(tmp_path / "two" / "x", 2)
    old, new = (shutil.copytree(llm, tmp_path / name / "x") for name in ("old", "new"))
    (new / "config.json").write_text((new / "config.json").read_text() + "\n")

    def known(canary: Path, base: Path) -> str:
        stack = hub.stack("nano", weights={"canary": canary, "canary-llm": base})
        return json.dumps(identity(hub, hub.assemble(stack), "float32", None))

    assert known(one, old) == known(one, old)
    assert len({known(canary, base) for canary in (one, two) for base in (old, new)}) == 4
    out = tmp_path / "out"
    for number, folder in enumerate((one, two), 1):
        stack = f"nano weights.canary={folder} weights.canary-llm={old}"
        assert "were there already" not in run(few, "--out", out, "--limit", "1", "--stack", stack).stderr
        assert len(list(out.glob("*.jsonl"))) == number


def test_weights_that_were_moved_are_the_same_and_those_that_were_touched_are_not(tmp_path: Path) -> None:
    folder = weights_at(tmp_path / "x")
    fingerprint = Checkpoint(WeightsRef(path=folder)).fingerprint()
    copy = shutil.copytree(folder, tmp_path / "copy")  # with the files' times
    moved = folder.rename(tmp_path / "moved")
    assert Checkpoint(WeightsRef(path=copy)).fingerprint() == fingerprint
    mirrored = Checkpoint(WeightsRef(repo="some/model", revision="main"), [lambda ref: moved])
    assert mirrored.fingerprint() == fingerprint
    file = moved / "model.safetensors"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    touched = Checkpoint(WeightsRef(path=moved)).fingerprint()
    file.write_bytes(file.read_bytes())
    assert len({fingerprint, touched, Checkpoint(WeightsRef(path=moved)).fingerprint()}) == 3


def test_a_repositorys_weights_count_with_their_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned, latest = "ab" * 20, "cd" * 20
    monkeypatch.setattr("canary_hub.weights.checkpoint.snapshot", lambda ref: Path("snapshots") / latest)
    known = [Checkpoint(WeightsRef("some/model", revision)).fingerprint() for revision in (pinned, "main", None)]
    assert known == [f"some/model@{pinned}", f"some/model@{latest}", f"some/model@{latest}"]


def test_a_changed_manifest_is_refused(few: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    shutil.copytree(few.parent, clips)
    manifest = clips / few.name
    assert run(manifest, "--out", tmp_path / "out", "--limit", "2").exit_code == 0
    before = rows_of(tmp_path / "out")
    manifest.write_text(manifest.read_text().replace(before[0]["reference"], "nine nine nine", 1))
    result = run(manifest, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "holds the results of another manifest: its utterance" in result.output
    assert "nine nine nine" in result.output
    assert rows_of(tmp_path / "out") == before


def test_bad_audio_is_counted_shown_and_tried_again(few: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    shutil.copytree(few.parent, clips)
    (clips / "1.wav").write_text("dear diary")
    good = (clips / "3.wav").read_bytes()
    (clips / "3.wav").unlink()
    result = run(clips / few.name, "--out", tmp_path / "out", "--limit", "5", "--format", "json")
    assert result.exit_code == 1
    assert "error: nano, 1.wav: " in result.stderr
    assert "error: nano, 3.wav: There is no file 3.wav." in result.stderr
    (stack,) = json.loads(result.stdout)["stacks"]
    assert (stack["utterances"], [row["id"] for row in stack["failed"]]) == (3, ["1.wav", "3.wav"])
    (clips / "3.wav").write_bytes(good)
    again = run(clips / few.name, "--out", tmp_path / "out", "--limit", "5", "--format", "json")
    assert again.exit_code == 1
    (stack,) = json.loads(again.stdout)["stacks"]
    assert (stack["utterances"], [row["id"] for row in stack["failed"]]) == (4, ["1.wav"])
    done = [row["index"] for row in rows_of(tmp_path / "out") if row["error"] is None]
    assert sorted(done) == [0, 2, 3, 4]  # the good ones once


def test_nothing_but_bad_audio(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio_filepath": "gone.wav", "text": "one"}\n')
    result = run(manifest, "--stack", "nano", "--stack", "nano max_new_tokens=3", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "There is no file gone.wav" in result.stderr


# Manifests


def test_every_form_of_manifest_names_the_same_audio(few: Path, tmp_path: Path) -> None:
    expected = open_manifest(few)
    (window,) = expected.windows()
    assert expected.count == len(window) == 10
    assert expected.seconds == pytest.approx(sum(len(soundfile.read(u.audio)[0]) / RATE for u in window))
    rows = [{"path": str(u.audio), "sentence": f" {u.reference}\n"} for u in window]
    with (tmp_path / "table.csv").open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.DictWriter(file, ["sentence", "path"])
        table.writeheader()
        table.writerows(rows)
    lines = ["sentence\tpath", *(f" {u.reference} \t{u.audio}" for u in window)]
    (tmp_path / "table.tsv").write_text("\n".join(lines), "utf-8-sig")
    folder = tmp_path / "folder"
    for utterance in window:
        place = folder / f"{utterance.index}"
        place.mkdir(parents=True)
        shutil.copy(utterance.audio, place / "clip.wav")
        (place / "clip.txt").write_text(utterance.reference + "\n")
    for where in (tmp_path / "table.csv", tmp_path / "table.tsv", folder):
        (found,) = open_manifest(where).windows()
        assert [u.reference for u in found] == [u.reference for u in window]
        assert [u.duration for u in found] == pytest.approx([u.duration for u in window])
        for ours, theirs in zip(found, window, strict=True):
            assert np.array_equal(ours.load(RATE).samples, theirs.load(RATE).samples)


def test_quotes_in_a_table_of_tabs_are_the_texts_own(tmp_path: Path) -> None:
    said = ['"Hello there.', "Second one.", 'He said "no".']
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(RATE, np.float32), RATE)
    lines = ["path\tsentence", *(f"{number}.wav\t{text}" for number, text in enumerate(said))]
    (tmp_path / "table.tsv").write_text("\n".join(lines), "utf-8")
    (found,) = open_manifest(tmp_path / "table.tsv").windows()
    assert [utterance.reference for utterance in found] == said


def test_parts_of_a_long_recording(tmp_path: Path) -> None:
    ramp = np.linspace(-0.5, 0.5, 3 * RATE, dtype=np.float32)
    for suffix in (".wav", ".mp3"):
        soundfile.write(tmp_path / f"long{suffix}", ramp, RATE)
    lines = [
        {"audio_filepath": "long.wav", "text": "a", "offset": 1, "duration": 0.5},
        {"audio_filepath": "long.wav", "text": "b", "offset": 2.5},
        {"audio_filepath": "long.wav", "text": "c", "duration": 0.5},
        {"audio_filepath": "long.wav", "text": "d", "offset": 9},
        {"audio_filepath": "long.mp3", "text": "e", "offset": 1, "duration": 0.5},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    ((middle, end, whole, beyond, lossy),) = open_manifest(tmp_path / "m.jsonl").windows()
    assert middle.id == "long.wav@1+0.5"
    assert middle.load(RATE).samples == pytest.approx(ramp[RATE : RATE * 3 // 2], abs=1e-4)
    assert end.load(RATE).samples == pytest.approx(ramp[RATE * 5 // 2 :], abs=1e-4)
    assert whole.load(RATE).seconds == 3  # without an offset the duration is only what the manifest says
    assert lossy.load(RATE).seconds == pytest.approx(0.5, abs=0.1)
    with pytest.raises(HubError, match="starts at 9 s, where its file has ended"):
        beyond.load(RATE)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.jsonl", '{"audio_filepath": "a.wav", "text": "x"}\nnonsense\n', "line 2 is no JSON object: 'nonsense'"),
        ("m.jsonl", '[{"audio_filepath": "a.wav"}]', "line 1 is no JSON object"),
        ("m.jsonl", '{"text": "x"}', "line 1 has none of audio_filepath"),
        ("m.jsonl", '{"audio": "a.wav", "words": "x"}', "has none of text"),
        ("m.jsonl", '{"audio": "a.wav", "text": null}', "text is None, no text"),
        ("m.jsonl", '{"audio": "a.wav", "text": "x", "offset": "soon"}', "offset is 'soon', no number of seconds"),
        ("m.jsonl", '{"audio": "a.wav", "text": "x", "duration": -1}', "duration is -1"),
        ("m.jsonl", "\n", "names no utterance"),
        ("m.csv", "file,words\na.wav,x\n", "It has file, words"),
        ("m.csv", "path,text\na.wav\n", "line 2: text is None"),
        ("a.wav", "no text beside it", "1 of 1 audio files"),
        ("m.jsonl", b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_an_unusable_manifest_is_one_clear_message(tmp_path: Path, name: str, content: str | bytes, message) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    result = run(tmp_path if name == "a.wav" else tmp_path / name, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_a_hugging_face_data_set_is_streamed(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr("canary_hub.evaluate.hf_dataset.WINDOW", 3)
    ((*window,),) = open_manifest(few).windows()
    rows = [
        {"audio": {"bytes": u.audio.read_bytes(), "path": f"{u.index}.wav"}, "text": u.reference, "id": f"u{u.index}"}
        for u in window[:7]
    ]
    rows[2]["text"], rows[4]["text"] = "ignore time segment in scoring", "(um)"  # left out on the leaderboard
    (tmp_path / "set").mkdir()
    made = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
    made.to_parquet(tmp_path / "set" / "test-00000-of-00001.parquet")
    address = f"hf:{tmp_path / 'set'}/default/test"
    windows = list(open_manifest(address).windows())
    assert [[u.id for u in window] for window in windows] == [["u0", "u1", "u3"], ["u5", "u6"]]
    for utterance in windows[0]:
        assert np.array_equal(utterance.load(RATE).samples, window[utterance.index].load(RATE).samples)
        assert utterance.duration == pytest.approx(window[utterance.index].duration)
    assert run(address, "--out", tmp_path / "out", "--limit", "2").exit_code == 0
    result = run(address, "--out", tmp_path / "out", "--format", "json")
    assert result.exit_code == 0, result.output
    assert "2 of ? utterances were there already" in result.stderr
    assert sorted(row["index"] for row in rows_of(tmp_path / "out")) == [0, 1, 3, 5, 6]
    for wrong, message in (
        (f"hf:{tmp_path / 'set'}/default/nope", "Bad split: nope"),
        (f"hf:{tmp_path / 'set'}/other/test", "'other' not found"),
        ("hf:name/test", "does not name data set, config and split"),
    ):
        result = run(wrong, "--out", tmp_path / "out")
        assert result.exit_code == 1
        assert message in result.output


def test_without_the_extra_a_data_set_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    result = run("hf:name/default/test", "--out", tmp_path)
    assert result.exit_code == 1
    assert 'pip install "canary-hub[eval]"' in result.output


# Lanes


@pytest.mark.parametrize(
    "text",
    [
        "nano",
        "nano llm=canary/qwen3-peft max_new_tokens=50",
        "nano prompt-template=canary/chat-prompt before=\"Say 'this': \" llm.seed=1 dtype=bfloat16",
        "nano encoder=canary/fastconformer-local window=12.5",
        r"nano weights.canary=C:\models\mine",
        'nano weights.canary="/data/my models"',
    ],
)
def test_a_lane_is_read_back_from_what_it_prints(text: str) -> None:
    lane = parse_lane(text)
    assert parse_lane(str(lane)) == lane
    assert parse_lane(f"  {text} ") == lane


def test_a_lane_loads_what_it_says(hub) -> None:
    lane = parse_lane("nano llm=canary/qwen3-peft llm.max_new_tokens=7 dtype=bfloat16 window=5")
    assert lane == Lane("nano", {Stage.LLM: "canary/qwen3-peft"}, {"llm.max_new_tokens": "7"}, {}, "bfloat16", 5.0)
    with hub.load(lane) as stack:
        assert stack.spec.components[Stage.LLM] == "canary/qwen3-peft"
        assert stack.options[Stage.LLM].max_new_tokens == 7
        assert stack.spec.window_seconds == 5.0
        assert stack.component(Stage.LLM).embed(torch.tensor([[1]])).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("llm=canary/qwen3", "it starts with 'llm=canary/qwen3', no stack"),
        ("nano fast", "'fast' is not of the form key=value"),
        ('nano before="x', "a quote is not closed"),
        ("nano llm=a/b llm=c/d", "gives a value twice"),
        ("nano window=long", "no number of seconds"),
    ],
)
def test_what_is_no_lane_is_refused(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_lane(text)


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        ("nan", "Did you mean nano"),
        ("nano llm=canary/fastconformer", "of stage encoder, not of llm"),
        ("nano colour=red", "No component of this stack has an option 'colour'"),
        ("nano max_new_tokens=many", "Unusable option"),
        ("nano dtype=int3", "no dtype 'int3'"),
        ("nano weights.canary=/nowhere", "No folder '/nowhere'"),
        ("nano", "A stack is named twice"),
    ],
)
def test_a_wrong_second_stack_is_told_before_the_first_runs(few: Path, tmp_path: Path, stack: str, message) -> None:
    result = run(few, "--stack", "nano", "--stack", stack, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_an_utterance_of_bytes_and_one_of_a_file_are_the_same(few: Path) -> None:
    path = few.parent / "0.wav"
    as_bytes = Utterance(0, "0", "", path.read_bytes()).load(RATE)
    assert np.array_equal(as_bytes.samples, Utterance(0, "0", "", path).load(RATE).samples)

"""Hours of audio on the command line: bounded memory, progress, and nothing lost by stopping."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from api_server import DIGITS
from click.testing import CliRunner
from conftest import ROOT

from canary_hub import Hub
from canary_hub.audio.decode import Limits, load_audio
from canary_hub.cli import main
from canary_hub.cli.resume import Partial
from canary_hub.errors import AudioError
from canary_hub.evaluate.identity import identity
from canary_hub.pipeline import BATCH_SEGMENTS, Stack
from canary_hub.run.result import Result, SegmentResult

RATE = 16000
PART = b'{"segment"'


def speech(seconds: float, path: Path, seed: int = 0) -> Path:
    """A WAV file of digits and pauses, written piece by piece."""
    choose = np.random.default_rng(seed)
    clips = [load_audio(clip).samples for clip in sorted(DIGITS.glob("*.flac"))]
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        while file.tell() < seconds * RATE:
            file.write(clips[choose.integers(len(clips))])
            file.write(np.zeros(choose.integers(2000, 12000), np.float32))
    return path


def command(*arguments: object) -> list[str]:
    return ["transcribe", "--stack", "nano", *map(str, arguments)]


def run(*arguments: object) -> str:
    """The command in this process; what it said on stderr."""
    done = CliRunner().invoke(main, command(*arguments))
    assert done.exit_code == 0, done.output
    return done.stderr


def started(*arguments: object) -> subprocess.Popen[str]:
    """The command as a program of its own."""
    line = [sys.executable, "-m", "canary_hub.cli", *command(*arguments)]
    return subprocess.Popen(
        line, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def killed(program: subprocess.Popen[str], partial: Path, lines: int) -> None:
    """Kill it once it has kept so many lines."""
    for _ in range(3000):
        with suppress(OSError):
            if partial.read_bytes().count(b"\n") >= lines:
                break
        assert program.poll() is None, program.stderr.read()
        time.sleep(0.02)
    program.kill()
    program.communicate(timeout=60)
    assert program.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> tuple[Path, Path]:
    """Ten minutes, and the folder with their transcript by a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("long")
    audio = speech(600, folder / "talk.wav")
    run(audio, "--output", folder / "whole", "--format", "srt")
    assert sorted(os.listdir(folder / "whole")) == ["talk.srt"], "something is left behind"
    return audio, folder / "whole"


def test_killed_and_resumed_equals_undisturbed(long, tmp_path, monkeypatch, tally) -> None:
    audio, whole = long
    out, partial = tmp_path / "out", tmp_path / "out" / ".talk.partial"
    killed(started(audio, "--output", out, "--format", "srt"), partial, 20)
    assert os.listdir(out) == [".talk.partial"], "a half transcript is taken for a whole one"
    kept = partial.read_bytes()
    partial.write_bytes(kept[:-30])  # torn in the middle of a line, as a kill may leave it
    batches: list[int] = []
    of_batch = Stack._run_batch
    monkeypatch.setattr(Stack, "_run_batch", lambda *a, **k: batches.append(len(a[1])) or of_batch(*a, **k))
    said = run(audio, "--output", out, "--format", "srt", "--resume")
    assert f"talk: goes on after {kept.count(PART) - 1} segments that are finished" in said
    assert (out / "talk.srt").read_bytes() == (whole / "talk.srt").read_bytes()
    assert os.listdir(out) == ["talk.srt"]
    total = len(Hub(tmp_path).load("nano").split(load_audio(audio)))
    assert max(batches) <= BATCH_SEGMENTS
    assert sum(batches) <= total - (kept.count(PART) - 1) // BATCH_SEGMENTS * BATCH_SEGMENTS
    tally("faults survived", 1)


def test_stopped_by_hand_says_how_to_go_on(tmp_path, monkeypatch, tally) -> None:
    audio = [speech(40, tmp_path / f"{name}.wav", seed) for seed, name in enumerate("abc")]
    arguments = (*audio, "--format", "csv", "--output")
    add = Partial.add

    def interrupted(self: Partial, index: int, segment: SegmentResult) -> None:
        if self.path.name == ".c.partial" and index == 2:
            raise KeyboardInterrupt
        add(self, index, segment)

    with monkeypatch.context() as patch:
        patch.setattr(Partial, "add", interrupted)
        stopped = CliRunner().invoke(main, command(*arguments, tmp_path / "out"))
    assert stopped.exit_code == 130
    assert "stopped: what is finished is kept; the same command with --resume goes on from there" in stopped.stderr
    assert {"a.csv", "b.csv", ".a.partial", ".b.partial", ".c.partial"} == set(os.listdir(tmp_path / "out"))
    said = run(*arguments, tmp_path / "out", "--resume")
    assert "c: goes on after 2 segments" in said
    run(*arguments, tmp_path / "whole")
    names = sorted(os.listdir(tmp_path / "whole"))
    assert sorted(os.listdir(tmp_path / "out")) == names == ["a.csv", "b.csv", "c.csv"]
    assert all((tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in names)
    tally("faults survived", 1)


def planted(folder: Path, audio: Path, **weights: Path) -> Path:
    """An interrupted run's file for one segment of `audio`, with a text that no run would write."""
    (folder / "out").mkdir()
    hub = Hub(folder)
    head = identity(hub, hub.assemble(hub.stack("nano", weights=weights)), "float32", None)
    partial = Partial(audio, folder / "out" / "talk.txt", head, resume=False)
    for i, span in enumerate(hub.load("nano").split(load_audio(audio))):
        partial.add(i, SegmentResult(span.start, span.end, "planted"))
    return folder / "out"


@pytest.mark.parametrize(
    ("others", "used"),
    [
        (["--resume"], True),
        ([], False),
        (["--resume", "-o", "max_new_tokens=9"], False),
        (["--resume", "--dtype", "bfloat16"], False),
        (["--resume", "--llm", "canary/qwen3-peft"], False),
        (["--resume", "--window", "5"], False),
    ],
)
def test_what_another_stack_has_begun_is_not_used(tmp_path, others, used) -> None:
    audio = speech(12, tmp_path / "talk.wav")
    out = planted(tmp_path, audio)
    said = run(audio, "--output", out, *others)
    assert ("planted" in (out / "talk.txt").read_text()) is used
    assert ("--resume would go on" in said) is (not others)
    assert os.listdir(out) == ["talk.txt"]


def test_what_other_weights_in_the_same_folder_have_begun_is_not_used(tmp_path) -> None:
    audio = speech(12, tmp_path / "talk.wav")
    weights = shutil.copytree(ROOT / "canary_hub" / "models" / "nano", tmp_path / "weights")
    out = planted(tmp_path, audio, canary=weights)
    os.utime(weights / "model.safetensors")
    run(audio, "--output", out, "--resume", "--weights", f"canary={weights}")
    assert "planted" not in (out / "talk.txt").read_text()


def test_what_was_begun_on_another_recording_is_not_used(tmp_path) -> None:
    audio = speech(12, tmp_path / "talk.wav")
    out = planted(tmp_path, audio)
    speech(12, audio, seed=1)
    run(audio, "--output", out, "--resume")
    assert "planted" not in (out / "talk.txt").read_text()


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"null\n", b"{}\n", b"[1]\n[2]\n", b"\x00\xff\n", b'{"bytes": 1}\n{"segment": 0}\n']
)
def test_a_damaged_file_is_written_anew(tmp_path, content) -> None:
    (tmp_path / ".talk.partial").write_bytes(content)
    (tmp_path / "talk.wav").write_bytes(b"x")
    partial = Partial(tmp_path / "talk.wav", tmp_path / "talk.txt", {"stack": "nano"}, resume=True)
    assert (partial.segments, partial.result) == ({}, None)
    partial.add(0, SegmentResult(0.0, 1.0, "one"))
    again = Partial(tmp_path / "talk.wav", tmp_path / "talk.txt", {"stack": "nano"}, resume=True)
    assert again.segments == {0: SegmentResult(0.0, 1.0, "one")}
    again.finish(Result("talk.wav", 1.0, "nano", warnings=("careful",)))
    last = Partial(tmp_path / "talk.wav", tmp_path / "talk.txt", {"stack": "nano"}, resume=True)
    assert last.result
    assert (last.result.text, last.result.warnings) == ("one", ("careful",))


def test_resume_says_what_it_needs(tmp_path) -> None:
    for more in ([], ["--output", str(tmp_path), "--details", str(tmp_path / "trace.json")]):
        done = CliRunner().invoke(main, command(DIGITS / "one.flac", "--resume", *more))
        assert done.exit_code == 1
        assert "--resume goes with --output DIR, and without --details." in done.output


def test_the_size_of_a_file_is_a_visitors_limit(tmp_path, monkeypatch) -> None:
    audio = speech(12, tmp_path / "talk.wav")
    monkeypatch.setattr(Limits, "max_bytes", 100_000)  # instead of 500 MB
    run(audio, "--output", tmp_path / "out")
    with pytest.raises(AudioError, match=r"the limit is 0\.1 MB"):
        Hub(tmp_path).load("nano").transcribe(audio)  # as the page does
    for setting, value, said in (
        ("CANARY_HUB_MAX_FILE_MB", "0.1", "the limit is 0.1 MB"),
        ("CANARY_HUB_MAX_SECONDS", "10", "longer than the limit of 10 seconds"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(setting, value)
            assert said in CliRunner().invoke(main, command(audio)).output


def test_results_hold_no_audio(long) -> None:
    audio, _ = long
    result = Hub(allow=()).load("nano").transcribe(audio)
    assert len(pickle.dumps(result)) < 300 * len(result.segments)
    assert json.dumps(result.seconds)


PEAKS = """
import resource, sys
from canary_hub.cli import main
for audio in sys.argv[2:]:
    main(["transcribe", "--stack", "nano", audio, "--output", sys.argv[1]], standalone_mode=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_a_long_file_takes_its_audio_and_no_more(tmp_path, whole, tally) -> None:
    hours = 3 if whole else 1 / 6
    audio = [speech(60, tmp_path / "short.wav"), speech(hours * 3600, tmp_path / "long.wav")]
    line = [sys.executable, "-c", PEAKS, str(tmp_path / "out"), *map(str, audio)]
    began = time.monotonic()
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    short, long = map(int, done.stdout.split())
    samples = hours * 3600 * RATE * 4
    print(f"{samples / 1e6:.0f} MB of samples: {(long - short) / 1e6:.0f} MB more than the {short / 1e6:.0f} MB of a "
          f"minute, in {time.monotonic() - began:.0f} s")  # fmt: skip
    assert long - short < 1.1 * samples + 100e6
    tally("minutes of audio in one file", round(60 * hours))

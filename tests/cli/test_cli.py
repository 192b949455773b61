"""The command line: transcripts in every format, bad files among good ones, swaps by name."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import ORACLE

from canary_hub.cli import main

TINY = [
    "--stack", "canary-qwen-2.5b", "--dtype", "float32", "--plugins-dir", str(ORACLE),
    "--weights", f"canary={ORACLE / 'checkpoint'}", "--weights", f"canary-llm={ORACLE / 'llm'}",
]  # fmt: skip


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def speech() -> Path:
    return ORACLE / "audio" / "speech.wav"


def test_text_on_stdout(speech: Path) -> None:
    result = run("transcribe", *TINY, speech)
    assert result.exit_code == 0, result.output
    assert result.stdout == "user\n"  # NeMo's text for this clip


def test_json_holds_what_is_promised(speech: Path) -> None:
    result = run("transcribe", *TINY, "--format", "json", speech, ORACLE / "audio" / "slice1p3.wav")
    first, second = json.loads(result.stdout)
    assert first["file"] == "speech.wav"
    assert first["duration"] == pytest.approx(11.0)
    assert first["text"] == "user"
    assert first["segments"][0]["start"] == 0
    assert first["segments"][0]["end"] == pytest.approx(11.0)
    assert first["stack"] == "canary-qwen-2.5b"
    assert {"audio", "preprocessor", "encoder", "projector", "llm"} <= set(first["seconds"])
    assert second["text"].startswith("3")


def test_one_bad_file_does_not_stop_the_others(speech: Path, tmp_path: Path) -> None:
    bad = tmp_path / "notes.wav"
    bad.write_text("dear diary")
    result = run("transcribe", *TINY, bad, tmp_path / "gone.wav", speech)
    assert result.exit_code == 1
    assert result.stdout == "user\n"
    assert "notes.wav" in result.stderr
    assert "There is no file gone.wav" in result.stderr
    assert "Traceback" not in result.output


PICKY = """
from canary_hub.models.canary_qwen.checkpoint import BASE_LLM, CHECKPOINT
from canary_hub.models.canary_qwen.log_mel import build as log_mel
from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, Stage

def build(given):
    inner = log_mel(given)
    def run(wav, lengths):
        if lengths.max() > 3 * 16000:
            raise ValueError("too long for me")
        return inner(wav, lengths)
    return run

@hookimpl
def canary_components():
    return [ComponentSpec(stage=Stage.PREPROCESSOR, id="picky/log-mel", factory=__name__ + ":build",
                          contract="canary_hub.models.canary_qwen.ports:log_mel",
                          weights={CHECKPOINT: None, BASE_LLM: None})]
"""


def test_a_file_that_fails_in_the_model_does_not_stop_the_others(speech: Path, tmp_path: Path) -> None:
    (tmp_path / "picky.py").write_text(PICKY)
    swap = ("--plugins-dir", tmp_path, "--preprocessor", "picky/log-mel")
    result = run(
        "transcribe", *swap, speech, Path(__file__).parents[1] / "digits" / "three.flac", "--output", tmp_path / "out"
    )
    assert result.exit_code == 1
    assert "error: speech.wav: picky/log-mel failed while running: ValueError: too long for me." in result.stderr
    assert (tmp_path / "out" / "three.txt").read_text() == "three\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["three.txt"]


def test_a_long_reference_is_a_text_and_no_file_name(speech: Path) -> None:
    result = run("compare", speech, "--lane", "no-such-stack", "--lane", "nano", "--reference", "word " * 100)
    assert "no-such-stack" in result.output
    assert "refuses" not in result.output


def test_output_folder_gets_one_file_each(speech: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "speech.wav"
    other.parent.mkdir()
    shutil.copy(ORACLE / "audio" / "slice1p3.wav", other)
    for format in ("srt", "vtt", "csv", "txt", "json"):
        result = run("transcribe", *TINY, "--format", format, "--output", tmp_path / "out", speech, other)
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"speech{n}.{f}" for n in ("", "-2") for f in ("srt", "vtt", "csv", "txt", "json")}
    assert "00:00:00,000 --> 00:00:11,000\nuser" in (tmp_path / "out" / "speech.srt").read_text()
    assert (tmp_path / "out" / "speech.vtt").read_text().startswith("WEBVTT")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "speech.csv").read_text())))
    assert rows[0]["text"] == "user"


def test_subtitles_of_several_files_need_a_folder(speech: Path) -> None:
    result = run("transcribe", *TINY, "--format", "srt", speech, speech)
    assert result.exit_code == 1
    assert "--output" in result.output


def test_details_are_written_beside_the_transcript(speech: Path, tmp_path: Path) -> None:
    result = run("transcribe", *TINY, "--details", tmp_path / "trace.json", speech)
    assert result.stdout == "user\n"
    (trace,) = json.loads((tmp_path / "trace.json").read_text())
    assert trace["version"] == 1
    assert len(trace["segments"][0]["frames"]) == 138
    assert [token["piece"] for token in trace["segments"][0]["tokens"]] == ["user", "<|im_end|>"]


def test_swaps_and_options_by_name(speech: Path) -> None:
    result = run(
        "transcribe", *TINY, "--llm", "canary/qwen3-peft", "-o", "max_new_tokens=1", "--format", "json", speech
    )
    (row,) = json.loads(result.stdout)
    assert row["segments"][0]["note"] == "cut off at its limit of 1 tokens"
    assert "cut off" in result.stderr
    prompt = run("transcribe", *TINY, "-o", "before=", "-o", "after= Repeat it.", ORACLE / "audio" / "b2.wav")
    assert prompt.stdout.startswith("7 my")  # NeMo's text for "<audio> Repeat it."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stack", "nan"], "Did you mean nano"),
        (["--llm", "canary/fastconformer"], "of stage encoder, not of llm"),
        (["-o", "max_new_tokens"], "not of the form key=value"),
        (["-o", "colour=red"], "No component of this stack has an option 'colour'"),
        (["--weights", "canary=/nowhere"], "No folder '/nowhere'"),
        (["--weights", "typo=/"], "weights named typo"),
        (["--dtype", "int3"], "no dtype 'int3'"),
    ],
)
def test_wrong_choices_are_one_clear_message(speech: Path, arguments: list[str], message: str) -> None:
    result = run("transcribe", *TINY, *arguments, speech)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_broken_plugin_does_not_stop_a_transcription(speech: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1/0")
    result = run("transcribe", *TINY, "--plugins-dir", tmp_path, speech)
    assert (result.exit_code, result.stdout) == (0, "user\n")


def test_check_says_what_would_be_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    result = run("check", "canary-qwen-2.5b")
    assert result.exit_code == 0
    assert "fit together" in result.output


def test_listings_name_everything() -> None:
    listed = json.loads(run("components", "--json").output)
    assert {"canary/log-mel", "canary/fastconformer", "canary/linear", "canary/chat-prompt", "canary/qwen3",
            "canary/qwen3-peft"} <= {row["id"] for row in listed}  # fmt: skip
    encoder = next(row for row in listed if row["id"] == "canary/fastconformer")
    assert encoder["contract"]["produces"][0]["dim"] == 1024
    assert {row["name"] for row in json.loads(run("stacks", "--json").output)} >= {"canary-qwen-2.5b", "nano"}
    assert "canary/qwen3-peft" in run("components", "llm").output
    assert "max_new_tokens" in run("components", "canary/qwen3").output


def test_the_variable_names_the_stack(monkeypatch: pytest.MonkeyPatch, speech: Path) -> None:
    monkeypatch.setenv("CANARY_HUB_STACK", "nonesuch")
    assert "no stack 'nonesuch'" in run("transcribe", speech).output

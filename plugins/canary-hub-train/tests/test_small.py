"""The whole command in miniature, from an empty folder to measured files."""

from __future__ import annotations

import io
import shutil
import tarfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
from canary_hub_train import tts
from canary_hub_train.command import train
from click.testing import CliRunner

pytestmark = pytest.mark.skipif(
    any(shutil.which(program) is None for program in tts.PACKAGES), reason="needs espeak-ng, flite and festival"
)


def recordings(path: Path) -> Path:
    """A tar that looks like the digits dataset, with tones for voices."""
    with tarfile.open(path, "w") as tar:
        for speaker, pitch in (("jackson", 110), ("ann", 220)):
            for digit in range(10):
                tone = 0.2 * np.sin(2 * np.pi * pitch * (1 + digit / 10) * np.arange(3000) / 8000)
                file = io.BytesIO()
                soundfile.write(file, tone, 8000, format="WAV", subtype="PCM_16")
                entry = tarfile.TarInfo(f"fsdd/{digit}_{speaker}_0.wav")
                entry.size = file.tell()
                file.seek(0)
                tar.addfile(entry, file)
    return path


def sentences(path: Path) -> Path:
    """Sentences of every pair and triple of a few words, enough for both splits."""
    words = ("the dog", "a child", "she", "nobody"), ("sees", "wants", "can't find"), ("the house", "us", "an old key")
    path.write_text("".join(f"{' '.join(said)} {when}\n" for said in product(*words) for when in ("now", "today")))
    return path


@pytest.mark.parametrize("recipe", ["digits", "open"])
def test_small_runs_every_step_and_exports(tmp_path: Path, recipe: str) -> None:
    data = ["--recipe", recipe, "--data", str(recordings(tmp_path / "fsdd.tar"))]
    if recipe == "open":
        data += ["--sentences", str(sentences(tmp_path / "sentences.txt"))]
    arguments = ["nano", "--small", "--everyone", "--state", str(tmp_path / "state"), *data]
    result = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    out = tmp_path / "state" / "checkpoint"
    assert {p.name for p in out.iterdir()} == {"config.json", "model.safetensors", "llm"}
    for phase in ("flat", "ctc", "copy", "bridge", "joint", "again", "everyone"):
        assert f'"phase": "{phase}"' in result.output
    report = tmp_path / "report.json"
    arguments = ["evaluate", str(out), "--count", "4", *data, "--report", str(report)]
    result = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "jackson (held out)" in report.read_text()

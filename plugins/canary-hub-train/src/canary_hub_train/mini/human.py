"""Tars of human speech: audio files and a `manifest.jsonl` (audio, text, text_raw, speaker, source, duration)."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from canary_hub.errors import HubError

RATE = 16_000
MANIFEST = "manifest.jsonl"
Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Recording:
    """Someone's words."""

    pcm: Pcm
    text: str
    raw: str
    speaker: str
    source: str

    @property
    def wav(self) -> npt.NDArray[np.float32]:
        """(S,) at 16 kHz."""
        return self.pcm.astype(np.float32) / 32768

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.pcm) / RATE


def _rows(archive: tarfile.TarFile) -> list[dict[str, str]]:
    file = archive.extractfile(MANIFEST)
    assert file is not None
    return [json.loads(line) for line in file.read().decode("utf-8").splitlines() if line.strip()]


def read_manifest(path: Path) -> list[dict[str, str]]:
    """The rows of the manifest alone.

    Raises: HubError when it is no such tar.
    """
    try:
        with tarfile.open(path) as archive:
            return _rows(archive)
    except (OSError, KeyError, tarfile.TarError, ValueError) as error:
        raise HubError(f"{path} is no tar with a {MANIFEST}: {error}.") from error


def read_recordings(path: Path) -> list[Recording]:
    """Every recording, at 16 kHz, in the manifest's order.

    Raises: HubError when it is no such tar.
    """
    import soundfile
    import soxr

    found = []
    try:
        with tarfile.open(path) as archive:
            for row in _rows(archive):
                file = archive.extractfile(row["audio"])
                assert file is not None
                wav, rate = soundfile.read(io.BytesIO(file.read()), dtype="float32", always_2d=True)
                mono = wav.mean(axis=1)
                if rate != RATE:
                    mono = soxr.resample(mono, rate, RATE)
                pcm = np.asarray(np.clip(np.round(mono * 32767), -32768, 32767), np.int16)
                raw = row.get("text_raw") or row.get("text", "")
                speaker, source = str(row.get("speaker", "")), str(row.get("source", row.get("kind", "")))
                found.append(Recording(pcm, row.get("text", ""), raw, speaker, source))
    except (OSError, KeyError, tarfile.TarError, ValueError) as error:
        raise HubError(f"{path} is no tar with a {MANIFEST}: {error}.") from error
    return found

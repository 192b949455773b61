"""A test set: which audio, and what is said in it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..audio.decode import load_audio
from ..audio.waveform import Waveform
from ..errors import AudioError

AUDIO_FIELDS = ("audio_filepath", "audio", "path", "file", "file_name")
TEXT_FIELDS = ("text", "sentence", "normalized_text", "norm_text", "transcript", "transcription")
"""Names of a manifest's fields and a data set's columns, the first that is there: NeMo's, Common Voice's and those
that the Open ASR Leaderboard reads (normalizer/data_utils.py, get_text)."""


@dataclass(frozen=True)
class Utterance:
    """Some audio with its reference text.

    index: its place in the manifest, which identifies it.
    id: what tables and messages call it.
    audio: a file, or the bytes of one.
    duration: in seconds, where the manifest or the file's header has it.
    offset: where it starts in the file, in seconds; then `duration` is where it ends. None for the whole file.
    """

    index: int
    id: str
    reference: str
    audio: Path | bytes
    duration: float | None = None
    offset: float | None = None

    def load(self, rate: int) -> Waveform:
        """Decode and resample to `rate` Hz. Raises: AudioError."""
        if self.offset is None or isinstance(self.audio, bytes):
            return load_audio(self.audio, rate, name=self.id)
        import soundfile

        try:  # read no more of a long recording than is needed
            with soundfile.SoundFile(self.audio) as file:
                file.seek(min(round(self.offset * file.samplerate), file.frames))
                frames = -1 if self.duration is None else round(self.duration * file.samplerate)
                part: Any = (file.samplerate, file.read(frames, dtype="float32"))
        except (soundfile.LibsndfileError, TypeError, ValueError):
            whole = load_audio(self.audio, rate, name=self.id).samples
            stop = None if self.duration is None else round((self.offset + self.duration) * rate)
            part = (rate, whole[round(self.offset * rate) : stop])
        if not len(part[1]):
            raise AudioError(f"{self.id} starts at {self.offset:g} s, where its file has ended.", "Check the offset.")
        return load_audio(part, rate, name=self.id)


@dataclass(frozen=True)
class Manifest:
    """A test set that can be gone through several times.

    windows: starts a pass; each list is held in memory, and its utterances may be taken in any order.
    count, seconds: how many utterances, and how much audio; None where that is not known before the end.
    """

    name: str
    windows: Callable[[], Iterator[list[Utterance]]]
    count: int | None = None
    seconds: float | None = None


def first_field(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first of the names that the row has."""
    return next((name for name in names if name in row), None)


def one_line(text: str) -> str:
    """The text with single spaces between words."""
    return " ".join(text.split())


def header_seconds(audio: Path | bytes) -> float | None:
    """The length in seconds by the file's header; None where libsndfile cannot read it."""
    import soundfile

    try:
        return float(soundfile.info(io.BytesIO(audio) if isinstance(audio, bytes) else str(audio)).duration)
    except (soundfile.LibsndfileError, TypeError, ValueError):  # ValueError: a name that no file system takes
        return None

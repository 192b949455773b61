"""Human digits: the Free Spoken Digit Dataset's tar, and strings made of one speaker's recordings.

The dataset (2,500 recordings, five people, 8 kHz) is CC BY-SA 4.0:
https://github.com/Jakobovski/free-spoken-digit-dataset
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from canary_hub.errors import HubError

from .text import DIGITS

Wave = npt.NDArray[np.float32]
RATE = 16_000
HELD_OUT = "jackson"
"""The speaker who is kept out of training; chosen before the first training run."""
_NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav$")


@dataclass(frozen=True)
class Recordings:
    """Per speaker, per digit, the single recordings as 16 kHz float32."""

    by_speaker: dict[str, list[list[Wave]]]

    def only(self, speakers: list[str]) -> Recordings:
        """Those speakers' part."""
        return Recordings({name: self.by_speaker[name] for name in speakers})

    @property
    def speakers(self) -> list[str]:
        """Their names, sorted."""
        return sorted(self.by_speaker)


def read_recordings(path: Path) -> Recordings:
    """All recordings in the tar, resampled to 16 kHz as canary_hub reads a file; their ends are left as recorded.

    Raises: HubError when the file is missing or is not that dataset.
    """
    import soundfile

    from canary_hub.audio.resample import Resampler

    found: dict[str, list[list[Wave]]] = {}
    try:
        with tarfile.open(path) as tar:
            for member in sorted(tar.getmembers(), key=lambda m: m.name):
                match = _NAME.search(member.name)
                handle = tar.extractfile(member) if match else None
                if match is None or handle is None:
                    continue
                wav, rate = soundfile.read(io.BytesIO(handle.read()), dtype="float32")
                digits = found.setdefault(match[2], [[] for _ in DIGITS])
                resampler = Resampler(rate, RATE)
                digits[int(match[1])].append(np.concatenate([resampler.feed(wav), resampler.finish()]))
    except (OSError, tarfile.TarError) as error:
        raise HubError(
            f"The spoken digits cannot be read from {path}: {error}.",
            "Expected: a tar of the Free Spoken Digit Dataset's recordings (digit_speaker_index.wav), "
            "github.com/Jakobovski/free-spoken-digit-dataset.",
        ) from error
    if not found or any(not clips for digits in found.values() for clips in digits):
        raise HubError(f"{path} does not hold ten digits of every speaker, named digit_speaker_index.wav.")
    return Recordings(found)


def human_string(
    recordings: Recordings,
    rng: np.random.Generator,
    count: int,
    gap: tuple[float, float] = (0.05, 0.4),
    speaker: str | None = None,
    change: Callable[[Wave], Wave] | None = None,
) -> tuple[Wave, str]:
    """`count` random digits of one speaker in a row, with silence of `gap` seconds between them.

    Args:
        change: done to every single recording, and then every digit is also of another speaker: so
            that training cannot tell a digit by the sound of the few people it knows.
    Returns: the samples (S,) and the words.
    """
    name = speaker or str(rng.choice(recordings.speakers))
    pieces: list[Wave] = []
    words = []
    for i in range(count):
        if i:
            pieces.append(np.zeros(int(rng.uniform(*gap) * RATE), np.float32))
        digit = int(rng.integers(10))
        if change is not None:
            name = str(rng.choice(recordings.speakers))
        takes = recordings.by_speaker[name][digit]
        take = takes[int(rng.integers(len(takes)))]
        pieces.append(take if change is None else change(take))
        words.append(DIGITS[digit])
    return np.concatenate(pieces), " ".join(words)

"""Text-to-speech from Debian's packages, rendered once to shards of 16 kHz int16, with the times of the phones."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from canary_hub.atomic import beside, write_text
from canary_hub.errors import HubError

from .espeak import espeak
from .phones import from_arpabet, from_espeak
from .text import draw
from .voices import PACKAGES, Voice, draw_voice

Pcm = npt.NDArray[np.int16]
RATE = 16_000
SHARD = 400
"""Utterances per shard: small enough that a stopped rendering loses little."""
_ESPEAK_WORDS_PER_MINUTE = 165


def check_programs() -> None:
    """Raises: HubError naming the Debian packages of every program that is missing."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if missing:
        raise HubError(
            "Training speech is made with text-to-speech programs that are not installed here.",
            f"Install them: apt-get install {' '.join(missing)}",
        )


@dataclass(frozen=True)
class Clip:
    """What was said: 16 kHz samples (S,), the phones (indices in PHONES) and the second at which each of them ends."""

    pcm: Pcm
    phones: list[int]
    ends: list[float]


_NOTHING = Clip(np.zeros(0, np.int16), [], [])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=600)
    return done.stdout.decode("ascii", "replace")


def _espeak(text: str, voice: Voice) -> Clip:
    library = espeak()
    wav, starts = library.say(text, voice.name, round(_ESPEAK_WORDS_PER_MINUTE * voice.speed), voice.pitch)
    ends = [start for _, start in starts[1:]] + [len(wav) / library.rate]
    return _clip(wav.astype(np.float32), library.rate, [from_espeak(phone) for phone, _ in starts], ends)


def _flite(text: str, voice: Voice, out: Path) -> Clip:
    stretch = f"duration_stretch={1 / voice.speed:.3f}"
    said = _run(["flite", "-psdur", "-voice", voice.name, "--setf", stretch, "-t", text, "-o", str(out)])
    timed = [pair.rsplit(":", 1) for pair in said.split()]
    return _read(out, [from_arpabet(phone) for phone, _ in timed], [float(end) for _, end in timed])


def _festival(jobs: list[tuple[str, Voice, Path]]) -> list[Clip]:
    """All of them in one process: festival takes longer to start than to speak."""
    lines = []
    for text, voice, out in jobs:
        lines.append(f"(voice_{voice.name})")
        lines.append(f"(Parameter.set 'Duration_Stretch {1 / voice.speed:.3f})")
        said = text.replace('"', "")
        lines.append(f'(set! said (utt.synth (Utterance Text "{said}")))')
        lines.append(f'(utt.save.wave said "{out}" \'riff) (utt.save.segs said "{out}.segs")')
    with tempfile.NamedTemporaryFile("w", suffix=".scm") as script:
        script.write("\n".join(lines))
        script.flush()
        _run(["festival", "-b", script.name])
    clips = []
    for _, _, out in jobs:
        segments = Path(f"{out}.segs")
        timed = [line.split() for line in segments.read_text("ascii", "replace").splitlines()[1:]]
        clips.append(_read(out, [from_arpabet(row[2]) for row in timed], [float(row[0]) for row in timed]))
    return clips


def _read(path: Path, phones: list[int], ends: list[float]) -> Clip:
    import soundfile

    wav, rate = soundfile.read(path, dtype="float32")
    return _clip(wav, rate, phones, ends)


def _clip(wav: npt.NDArray[np.float32], rate: int, phones: list[int], ends: list[float], margin: float = 0.06) -> Clip:
    """The speech at 16 kHz, peak 0.7, cut to `margin` seconds around what is loud."""
    import soxr

    if rate != RATE:
        wav = soxr.resample(wav, rate, RATE)
    peak = float(np.abs(wav).max(initial=0.0))
    loud = np.flatnonzero(np.abs(wav) > 0.02 * peak)
    if peak == 0 or loud.size == 0:
        return _NOTHING
    edge = int(margin * RATE)
    first = max(0, int(loud[0]) - edge)
    wav = wav[first : loud[-1] + edge] * (0.7 / peak)
    inside = [round(min(max(end - first / RATE, 0.0), len(wav) / RATE), 3) for end in ends]
    return Clip(np.asarray(np.round(wav * 32767), np.int16), phones, inside)


def render(jobs: list[tuple[str, Voice]]) -> list[Clip]:
    """Says every (text, voice); an empty clip where a program gave nothing."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.wav" for i in range(len(jobs))]
        numbered = [(text, voice, path) for (text, voice), path in zip(jobs, paths, strict=True)]
        with_festival = [job for job in numbered if job[1].engine == "festival"]
        slow = iter(_festival(with_festival) if with_festival else [])
        clips = []
        for text, voice, path in numbered:
            if voice.engine == "espeak":
                clips.append(_espeak(text, voice))
            else:
                clips.append(_flite(text, voice, path) if voice.engine == "flite" else next(slow))
        return clips


def _render_shard(folder: Path, kind: str, index: int, sentences: list[str], group: str, count: int) -> Path:
    """One shard: `KIND-GROUP-INDEX.npy` (all samples in a row) and `.json` (text, voice, start, length, phones)."""
    path = folder / f"{kind}-{group}-{index:05d}.npy"
    if path.exists():
        return path
    rng = np.random.default_rng([index, *kind.encode(), *group.encode()])
    jobs = [(draw(rng, kind, sentences), draw_voice(rng, group)) for _ in range(count)]
    clips = render(jobs)
    rows, start = [], 0
    for (text, voice), clip in zip(jobs, clips, strict=True):
        if clip.pcm.size:
            row = {"text": text, "voice": voice.name, "start": start, "length": clip.pcm.size}
            rows.append({**row, "phones": clip.phones, "ends": clip.ends})
            start += clip.pcm.size
    write_text(path.with_suffix(".json"), json.dumps(rows))
    with beside(path) as part, part.open("wb") as file:  # last: a shard that exists is complete
        np.save(file, np.concatenate([clip.pcm for clip in clips]))
    return path


def render_shards(
    folder: Path,
    counts: dict[tuple[str, str], int],
    sentences: list[str],
    workers: int,
    say: Callable[[str], None] = print,
) -> list[Path]:
    """Renders what is missing of the training speech; returns every shard.

    Args:
        counts: (kind of text as in `text.draw`, group of voices as in `voices.draw_voice`) -> utterances.
    """
    check_programs()
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for (kind, group), count in counts.items():
        shards = -(-count // SHARD)
        jobs += [(kind, i, group, min(SHARD, count - i * SHARD)) for i in range(shards)]
    jobs.sort(key=lambda job: job[1])  # interleaved, so that a part of the shards already has every kind
    paths: list[Path] = []
    with ProcessPoolExecutor(max_workers=workers) as pool:
        waiting = [
            pool.submit(_render_shard, folder, kind, i, sentences if kind == "sentences" else [], group, n)
            for kind, i, group, n in jobs
        ]
        for done, future in enumerate(waiting, 1):
            paths.append(future.result())
            if done % 10 == 0 or done == len(waiting):
                say(f"speech: {done} of {len(waiting)} shards")
    return paths

"""Text-to-speech from Debian's packages, rendered once to shards of 16 kHz int16 on disk."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from canary_hub.errors import HubError
from canary_hub.files import beside, write_text

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


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600)


def _espeak(text: str, voice: Voice, out: Path) -> None:
    speed = str(round(_ESPEAK_WORDS_PER_MINUTE * voice.speed))
    _run(["espeak-ng", "-v", voice.name, "-s", speed, "-p", str(voice.pitch), "-w", str(out), text])


def _flite(text: str, voice: Voice, out: Path) -> None:
    stretch = f"duration_stretch={1 / voice.speed:.3f}"
    _run(["flite", "-voice", voice.name, "--setf", stretch, "-t", text, "-o", str(out)])


def _festival(jobs: list[tuple[str, Voice, Path]]) -> None:
    """All of them in one process: festival takes longer to start than to speak."""
    lines = []
    for text, voice, out in jobs:
        lines.append(f"(voice_{voice.name})")
        lines.append(f"(Parameter.set 'Duration_Stretch {1 / voice.speed:.3f})")
        said = text.replace('"', "")
        lines.append(f'(utt.save.wave (utt.synth (Utterance Text "{said}")) "{out}" \'riff)')
    with tempfile.NamedTemporaryFile("w", suffix=".scm") as script:
        script.write("\n".join(lines))
        script.flush()
        _run(["festival", "-b", script.name])


def _trimmed(path: Path, margin: float = 0.06) -> Pcm:
    """A rendered file as 16 kHz int16, peak 0.7, cut to `margin` seconds around the speech."""
    import soundfile
    import soxr

    wav, rate = soundfile.read(path, dtype="float32")
    if rate != RATE:
        wav = soxr.resample(wav, rate, RATE)
    peak = float(np.abs(wav).max(initial=0.0))
    loud = np.flatnonzero(np.abs(wav) > 0.02 * peak)
    if peak == 0 or loud.size == 0:
        return np.zeros(0, np.int16)
    edge = int(margin * RATE)
    wav = wav[max(0, loud[0] - edge) : loud[-1] + edge] * (0.7 / peak)
    return np.asarray(np.round(wav * 32767), np.int16)


def render(jobs: list[tuple[str, Voice]]) -> list[Pcm]:
    """Says every (text, voice); an empty array where a program gave nothing."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.wav" for i in range(len(jobs))]
        slow = [(text, voice, path) for (text, voice), path in zip(jobs, paths, strict=True)]
        with_festival = [job for job in slow if job[1].engine == "festival"]
        if with_festival:
            _festival(with_festival)
        for text, voice, path in slow:
            if voice.engine == "espeak":
                _espeak(text, voice, path)
            elif voice.engine == "flite":
                _flite(text, voice, path)
        return [_trimmed(path) if path.exists() else np.zeros(0, np.int16) for path in paths]


def _render_shard(folder: Path, kind: str, index: int, sentences: list[str], group: str, count: int) -> Path:
    """One shard: `KIND-GROUP-INDEX.npy` (all samples in a row) and `.json` (text, voice, start, length)."""
    path = folder / f"{kind}-{group}-{index:05d}.npy"
    if path.exists():
        return path
    rng = np.random.default_rng([index, *kind.encode(), *group.encode()])
    jobs = [(draw(rng, kind, sentences), draw_voice(rng, group)) for _ in range(count)]
    clips = render(jobs)
    rows, start = [], 0
    for (text, voice), clip in zip(jobs, clips, strict=True):
        if clip.size:
            rows.append({"text": text, "voice": voice.name, "start": start, "length": int(clip.size)})
            start += int(clip.size)
    write_text(path.with_suffix(".json"), json.dumps(rows))
    with beside(path) as part, part.open("wb") as file:  # last: a shard that exists is complete
        np.save(file, np.concatenate(clips))
    return path


def render_shards(
    folder: Path,
    counts: dict[str, int],
    sentences: list[str],
    workers: int,
    say: Callable[[str], None] = print,
    group: str = "seen",
) -> list[Path]:
    """Renders what is missing of the training speech; returns every shard.

    Args:
        counts: kind of text -> utterances, as in `text.draw`.
    """
    check_programs()
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for kind, count in counts.items():
        shards = -(-count // SHARD)
        jobs += [(kind, i, min(SHARD, count - i * SHARD)) for i in range(shards)]
    jobs.sort(key=lambda job: job[1])  # interleaved, so that a part of the shards already has every kind
    paths: list[Path] = []
    with ProcessPoolExecutor(max_workers=workers) as pool:
        waiting = [
            pool.submit(_render_shard, folder, kind, i, sentences if kind == "sentences" else [], group, n)
            for kind, i, n in jobs
        ]
        for done, future in enumerate(waiting, 1):
            paths.append(future.result())
            if done % 10 == 0 or done == len(waiting):
                say(f"speech: {done} of {len(waiting)} shards")
    return paths

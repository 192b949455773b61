"""The committed evaluation of an exported nano: it makes its own speech, so anyone can rerun it.

Conditions: unseen sentences in seen voices, in unseen espeak variants, in an unseen flite voice;
digit strings of the held-out person; the same audio with the texts shuffled (does it listen?);
and clips without speech (does it invent?).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import jiwer
import numpy as np
import numpy.typing as npt

from .augment import background
from .digits import HELD_OUT, Recordings, human_string
from .export import load_exported
from .text import draw
from .transcribe import transcribe
from .tts import RATE, render
from .voices import Voice, draw_voice

Wave = npt.NDArray[np.float32]
SEED = 20_260_101
GROUPS = ("seen", "unseen-espeak", "unseen-flite")


@dataclass(frozen=True)
class Score:
    """Word error rate in percent of one condition, with its 95 % bootstrap interval over utterances."""

    condition: str
    utterances: int
    words: int
    wer: float
    low: float
    high: float
    exact: float
    """Percent of utterances without any error."""


def score(condition: str, references: list[str], hypotheses: list[str], draws: int = 1000) -> Score:
    """Errors counted per utterance by jiwer, then resampled `draws` times."""
    errors, words = [], []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        found = jiwer.process_words(reference, hypothesis)
        errors.append(found.substitutions + found.deletions + found.insertions)
        words.append(found.hits + found.substitutions + found.deletions)
    wrong, total = np.array(errors), np.array(words)
    picks = np.random.default_rng(SEED).integers(0, len(wrong), (draws, len(wrong)))
    rates = wrong[picks].sum(1) / total[picks].sum(1)
    low, high = (float(x) for x in np.percentile(rates, (2.5, 97.5)))
    return Score(
        condition,
        len(wrong),
        int(total.sum()),
        round(100 * float(wrong.sum() / total.sum()), 2),
        round(100 * low, 2),
        round(100 * high, 2),
        round(100 * float((wrong == 0).mean()), 1),
    )


def human_test(recordings: Recordings, count: int, speaker: str = HELD_OUT) -> tuple[list[Wave], list[str]]:
    """`count` strings of 1 to 8 digits by one person, gaps of 0.05 to 0.4 s."""
    rng = np.random.default_rng(SEED)
    pairs = [human_string(recordings, rng, int(rng.integers(1, 9)), speaker=speaker) for _ in range(count)]
    return [wav for wav, _ in pairs], [text for _, text in pairs]


def spoken_test(
    group: str, kinds: tuple[str, ...], sentences: list[str], count: int, workers: int = 2
) -> tuple[list[Wave], list[str]]:
    """`count` texts of the test split, said by voices of the group; texts have four words or more."""
    rng = np.random.default_rng([SEED, GROUPS.index(group)])
    jobs: list[tuple[str, Voice]] = []
    while len(jobs) < count:
        text = draw(rng, str(rng.choice(kinds)), sentences, "test")
        if text.count(" ") >= 3:  # shorter ones are in training too
            jobs.append((text, draw_voice(rng, group)))
    parts = [jobs[i : i + 25] for i in range(0, count, 25)]
    with ProcessPoolExecutor(max_workers=workers) as pool:
        clips = [clip for part in pool.map(render, parts) for clip in part]
    wavs = [np.pad(clip.pcm.astype(np.float32) / np.float32(32768), RATE // 5) for clip in clips]
    return wavs, [text for text, _ in jobs]


def evaluate(
    folder: Path,
    recordings: Recordings | None,
    sentences: list[str],
    kinds: tuple[str, ...],
    count: int = 600,
    human: int = 1000,
    say: Callable[[str], None] = print,
) -> dict[str, object]:
    """All conditions on the exported files in `folder`; the report as plain data.

    Args:
        kinds: kinds of text (see `text.draw`) the model claims to know.
        sentences: the test split's sentences, for kind "sentences".
    """
    model = load_exported(folder)
    scores: list[Score] = []

    def add(condition: str, wavs: list[Wave], texts: list[str]) -> list[str]:
        found = transcribe(model, wavs)
        scores.append(score(condition, texts, found))
        say(_line(scores[-1]))
        return found

    for group in GROUPS:
        wavs, texts = spoken_test(group, kinds, sentences, count)
        found = add(group, wavs, texts)
        if group == "seen":
            # The transcripts against other utterances' texts: far from 100 % only if it guesses.
            scores.append(score("shuffled audio", texts[1:] + texts[:1], found))
            say(_line(scores[-1]))
            examples = [{"said": t, "heard": f} for t, f in list(zip(texts, found, strict=True))[:8]]
    if recordings is not None:
        for speaker in sorted(recordings.speakers, key=lambda name: name != HELD_OUT):
            wavs, texts = human_test(recordings, human if speaker == HELD_OUT else human // 10, speaker)
            add(f"human digits, {speaker}" + (" (held out)" if speaker == HELD_OUT else ""), wavs, texts)
    rng = np.random.default_rng(SEED)
    empty = [background(int(rng.uniform(0.5, 6) * RATE), rng) for _ in range(100)]
    words = [len(text.split()) for text in transcribe(model, empty)]
    report: dict[str, object] = {
        "without_speech": {"clips": len(words), "not_empty": sum(w > 0 for w in words), "words": sum(words)},
        "scores": [asdict(row) for row in scores],
        "examples": examples,
    }
    say(f"{'without speech':34} {sum(w > 0 for w in words)} of {len(words)} clips not empty")
    return report


def _line(row: Score) -> str:
    return (
        f"{row.condition:34} WER {row.wer:6.2f} % ({row.low:.2f} to {row.high:.2f}), "
        f"{row.exact:.1f} % exact, {row.utterances} utterances, {row.words} words"
    )

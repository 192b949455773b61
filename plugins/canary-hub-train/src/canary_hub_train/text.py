"""What is said in training and in tests: vocabularies, sentences, and the split between the two.

The split is a function of the sentence alone, so a test sentence can never be trained on,
whatever the seed, the machine or the order of rendering.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import numpy as np

from canary_hub.errors import HubError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_WORDS = """
yes no hello goodbye please thanks stop start go wait left right up down on off open close red green
blue black white yellow big small new old good bad hot cold day night morning evening today tomorrow
now later here there home work school water coffee tea bread milk music light door window phone car
bus train street city house room time name help more less play pause next back monday tuesday
wednesday thursday friday saturday sunday
"""
WORDS = tuple(_WORDS.split())

PHRASES = (
    "good morning",
    "good evening",
    "good night",
    "thank you",
    "thank you very much",
    "how are you",
    "i am fine",
    "see you later",
    "see you tomorrow",
    "what time is it",
    "what is your name",
    "my name is",
    "where is the door",
    "where is the train",
    "turn on the light",
    "turn off the light",
    "turn on the music",
    "turn off the music",
    "open the door",
    "open the window",
    "close the door",
    "close the window",
    "please wait here",
    "please help me",
    "call me tomorrow",
    "call me later",
    "i need help",
    "i need more time",
    "i want some water",
    "i want some coffee",
    "a cup of tea",
    "a cup of coffee",
    "bread and milk",
    "black and white",
    "go home now",
    "go to school",
    "go to work",
    "turn left",
    "turn right",
    "stop here please",
    "play the next song",
    "play some music",
    "the bus is late",
    "the train is here",
    "it is hot today",
    "it is cold today",
    "this is a test",
    "can you hear me",
    "my phone number is",
    "the room number is",
    "one more time",
    "no thank you",
    "yes please",
)

_BUCKETS = 50
_CLEAN = re.compile(r"^[a-z' ]+$")


def split_of(sentence: str) -> str:
    """ "train" or "test" (2 in 50), decided by the sentence's hash alone."""
    bucket = int.from_bytes(hashlib.sha256(sentence.encode()).digest()[:8], "big") % _BUCKETS
    return "test" if bucket < 2 else "train"


def digit_string(rng: np.random.Generator, low: int = 1, high: int = 8) -> str:
    """Between `low` and `high` random digit words."""
    return " ".join(rng.choice(DIGITS, size=int(rng.integers(low, high + 1))))


def everyday(rng: np.random.Generator) -> str:
    """A few words: a phrase, loose words, or a phrase that ends in digits.

    Loose words matter: without them the language model could guess the phrase from its start.
    """
    kind = rng.random()
    if kind < 0.45:
        return str(rng.choice(PHRASES))
    if kind < 0.85:
        return " ".join(rng.choice(WORDS, size=int(rng.integers(1, 5))))
    tail = digit_string(rng, 1, 4)
    return f"{rng.choice(PHRASES)} {tail}" if rng.random() < 0.5 else f"{rng.choice(WORDS)} {tail}"


def draw(rng: np.random.Generator, kind: str, sentences: list[str], split: str = "train") -> str:
    """One text of the split: kind is "digits", "everyday" or "sentences".

    Very short texts (one or two words) are everywhere and belong to both splits.
    """
    while True:
        if kind == "digits":
            text = digit_string(rng)
        elif kind == "everyday":
            text = everyday(rng)
        else:
            text = sentences[int(rng.integers(len(sentences)))]
            if rng.random() < 0.15:  # some of them said only in part: sentences also end early
                words = text.split()
                start = int(rng.integers(len(words)))
                text = " ".join(words[start : start + int(rng.integers(1, 5))])
        if text.count(" ") < 3 or split_of(text) == split:
            return text


def read_sentences(path: Path, split: str = "train", longest: int = 90) -> list[str]:
    """The sentences of a split: a text file (also .gz), one sentence per line or "source<TAB>sentence".

    Lines with other than lower-case letters, apostrophe and space are dropped, and so are those
    longer than `longest` characters (about 6 s of speech).

    Raises: HubError when there is no such file or nothing usable in it.
    """
    try:
        text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise HubError(f"The sentences cannot be read from {path}: {error}.") from error
    found = [line.split("\t")[-1].strip() for line in text.splitlines()]
    kept = [s for s in found if len(s) <= longest and _CLEAN.match(s) and split_of(s) == split]
    if not kept:
        raise HubError(
            f"{path} has no usable sentence.",
            "Expected: one sentence per line, lower-case letters, apostrophe and space.",
        )
    return kept

"""The sentences: which may be said aloud, which are kept back, and capitals for text that has none."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from canary_hub.errors import HubError

_SAME = str.maketrans(
    # Curly quotes, long dashes, the ellipsis and the fixed space, by their code points.
    dict(
        zip(
            "\u201c\u201d\u2018\u2019\u2014\u2013\u2026\u00a0",
            ('"', '"', "'", "'", ", ", "-", "...", " "),
            strict=True,
        )
    )
)
_SAYABLE = re.compile(r"[A-Za-z0-9 ,.?!;:'\"()$%&/-]+")
KEPT_BACK = 256
"""One sentence in so many is never trained on: what unseen text-to-speech is measured with."""


def plain(sentence: str) -> str:
    """The sentence in plain quotes and dashes, single spaces."""
    return re.sub(r"\s+,", ",", " ".join(sentence.translate(_SAME).split()))


def read_sentences(path: Path, without: Iterable[str] = (), most: int | None = None) -> list[str]:
    """Sentences of a .tsv(.gz): the last column of every line after the header, none twice.

    Args:
        without: texts to leave out, by their words: those that the model is chosen by.
        most: lines to read; the whole file takes some ten seconds.
    Raises: HubError when the file cannot be read.
    """
    left_out = {words(text) for text in without}
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = [plain(line.rstrip("\n").rsplit("\t", 1)[-1]) for line in islice(file, most)]
    except (OSError, UnicodeError) as error:
        raise HubError(f"The sentences in {path} cannot be read: {error}.") from error
    return [line for line in dict.fromkeys(lines[1:]) if len(line) > 1 and words(line) not in left_out]


def is_kept_back(sentence: str) -> bool:
    """Whether the sentence is one of those that nothing trains on."""
    return zlib.crc32(sentence.encode()) % KEPT_BACK == 0


def sayable(sentence: str) -> bool:
    """Whether every text-to-speech program here says what is written: plain characters, few signs, not too long."""
    return (
        bool(_SAYABLE.fullmatch(sentence))
        and len(sentence) <= 320
        and sum(not (c.isalpha() or c == " ") for c in sentence) <= 3 + len(sentence) // 10
    )


def words(text: str) -> str:
    """Lower case, letters, digits and apostrophes only: to tell whether two texts are the same."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower().translate(_SAME)))


class Capitals:
    """Gives text its capitals back: a word is written as the corpus mostly writes it inside sentences."""

    def __init__(self, sentences: Iterable[str]) -> None:
        forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for sentence in sentences:
            for word in re.findall(r"[A-Za-z']+", sentence)[1:]:
                forms[word.lower()][word] += 1
        self._form = {word: counted.most_common(1)[0][0] for word, counted in forms.items()}

    def restore(self, text: str) -> str:
        """'MARY IS GOING TO SEE MONKEY' -> 'Mary is going to see monkey.'; letters that are spelled stay capital."""
        given = text.lower().split()
        letters = sum(len(word) == 1 and word not in ("i", "a") for word in given)
        out = []
        for word in given:
            spelled = len(word) == 1 and (word == "i" or letters > 0)
            out.append(word.upper() if spelled else self._form.get(word, word))
        joined = " ".join(out)
        joined = joined[:1].upper() + joined[1:]
        return joined if joined.endswith((".", "?", "!")) or not joined else joined + "."


def written(text: str, capitals: Capitals) -> str:
    """A reference text as `mini` shall write it: as it is where it has lower case and capitals, else restored."""
    text = plain(text).rstrip(" ,;:-")
    if text.upper() == text or text.lower() == text:
        return capitals.restore(text)
    text = text[:1].upper() + text[1:]
    return text if text[-1:] in '.?!"' else text + "."

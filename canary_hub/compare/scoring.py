"""Word and character errors of a transcript against a reference: jiwer's counts, Whisper's English normaliser.

jiwer and whisper-normalizer are imported on the first use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import jiwer

Normalise = Literal["whisper", "raw"]
NORMALISERS: tuple[Normalise, ...] = ("whisper", "raw")
"""What is done to both texts before they are compared.

whisper: Whisper's English normaliser (lower case, no punctuation, numbers as digits, British spelling as American,
    contractions written out), which the Open ASR Leaderboard uses; Radford et al. 2022, appendix C.
raw: nothing. Case and punctuation count.
"""

DiffKind = Literal["equal", "insert", "delete", "substitute"]


@dataclass(frozen=True)
class Edits:
    """Edit operations that turn references into hypotheses, in words or in characters; they add up with `+`."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def reference(self) -> int:
        """Words (or characters) of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def wrong(self) -> int:
        """Substitutions + deletions + insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per word (or character) of the reference; can exceed 1.

        For an empty reference the number of insertions, as in jiwer: 0 where nothing was written, as is right.
        """
        return self.wrong / max(self.reference, 1)

    def __add__(self, other: Edits) -> Edits:
        return Edits(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


@dataclass(frozen=True)
class Errors:
    """Word and character edits of one utterance, or of many: `sum(each, Errors())`.

    The rates of a sum weigh every word alike (errors of all utterances / words of all references). jiwer counts the
    spaces between words as characters, and so does this.
    """

    words: Edits = field(default_factory=Edits)
    characters: Edits = field(default_factory=Edits)

    @property
    def wer(self) -> float:
        """Word error rate, 0.05 for five errors in a hundred words."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Character error rate."""
        return self.characters.rate

    def __add__(self, other: Errors) -> Errors:
        return Errors(self.words + other.words, self.characters + other.characters)


@dataclass(frozen=True)
class Diff:
    """A run of words that two texts share, or in which they differ.

    reference, hypothesis: the words; the same for "equal", as many for "substitute", and empty on one side for
        "insert" (only in the hypothesis) and "delete" (only in the reference).
    """

    kind: DiffKind
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]


def normalised(text: str, normalise: Normalise = "whisper") -> str:
    """The text as it is compared; see `NORMALISERS`."""
    return _whisper()(text) if normalise == "whisper" else text


def errors(reference: str, hypothesis: str, normalise: Normalise = "whisper") -> Errors:
    """The edits between two texts, after normalising both."""
    import jiwer

    texts = normalised(reference, normalise), normalised(hypothesis, normalise)
    return Errors(_edits(jiwer.process_words(*texts)), _edits(jiwer.process_characters(*texts)))


def word_diff(reference: str, hypothesis: str, normalise: Normalise = "whisper") -> list[Diff]:
    """How two texts differ, for display: normalised words in order, an alignment with the fewest errors.

    The diffs hold every word of either text once, and as many errors as `errors` counts.
    """
    import jiwer

    aligned = jiwer.process_words(normalised(reference, normalise), normalised(hypothesis, normalise))
    (before,), (after,), (chunks,) = aligned.references, aligned.hypotheses, aligned.alignments
    return [
        Diff(
            chunk.type,
            tuple(before[chunk.ref_start_idx : chunk.ref_end_idx]),
            tuple(after[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in chunks
    ]


def _edits(output: jiwer.WordOutput | jiwer.CharacterOutput) -> Edits:
    return Edits(output.hits, output.substitutions, output.deletions, output.insertions)


@cache
def _whisper() -> Callable[[str], str]:
    from whisper_normalizer.english import EnglishTextNormalizer

    normaliser: Callable[[str], str] = EnglishTextNormalizer()
    return normaliser

"""Errors and differences: jiwer's and the Whisper normaliser's own numbers on the same pairs."""

from __future__ import annotations

import random

import jiwer
import pytest
from whisper_normalizer.english import EnglishTextNormalizer

from canary_hub.compare.scoring import Diff, Edits, Errors, errors, normalised, word_diff

WORDS = [
    *("the", "colour", "of", "twenty-three", "Mr.", "Smith's", "cats", "isn't", "", "grey,", "$5.20", "um"),
    *("(laughs)", "centre", "ONE", "naïve", "don't", "3rd", "a", "be", "Ça"),
]
whisper = EnglishTextNormalizer()


def random_pairs(count: int) -> list[tuple[str, str]]:
    """References, and hypotheses with words replaced, left out and put in."""
    rng = random.Random(20)
    pairs = []
    for _ in range(count):
        reference = rng.choices(WORDS, k=rng.randint(0, 12))
        hypothesis = [word for word in reference if rng.random() > 0.15]
        for at in range(len(hypothesis)):
            if rng.random() < 0.3:
                hypothesis[at] = rng.choice(WORDS)
        for _ in range(rng.randint(0, 2)):
            hypothesis.insert(rng.randint(0, len(hypothesis)), rng.choice(WORDS))
        pairs.append((" ".join(reference), " ".join(hypothesis)))
    return pairs


@pytest.mark.parametrize("how", ["whisper", "raw"])
def test_rates_equal_jiwers_on_random_pairs(how) -> None:
    pairs = random_pairs(300)
    prepare = whisper if how == "whisper" else str
    for reference, hypothesis in pairs:
        found = errors(reference, hypothesis, how)
        words = jiwer.process_words(prepare(reference), prepare(hypothesis))
        assert found.wer == words.wer
        assert found.words == Edits(words.hits, words.substitutions, words.deletions, words.insertions)
        assert found.words.reference == len(words.references[0])
        assert found.cer == jiwer.cer(prepare(reference), prepare(hypothesis))
    total = sum((errors(*pair, how) for pair in pairs), Errors())
    references, hypotheses = [prepare(r) for r, _ in pairs], [prepare(h) for _, h in pairs]
    assert total.wer == jiwer.wer(references, hypotheses)
    assert total.cer == jiwer.cer(references, hypotheses)
    assert 0.1 < total.wer < 1  # the pairs do differ


def test_normaliser_forgives_what_is_no_error_of_hearing() -> None:
    assert normalised("Mr. Smith's colour is twenty-three!") == "mister smith is color is 23"
    assert errors("It's twenty three, Mr. Smith.", "it is 23 mister smith").wer == 0
    assert errors("It's twenty three, Mr. Smith.", "it is 23 mister smith", "raw").wer == 1


def test_empty_references() -> None:
    assert errors("", "") == Errors()
    assert errors("", "").wer == 0
    assert errors("", "two words").wer == 2 == jiwer.process_words("", "two words").wer
    assert errors("um (coughs)", "").wer == 0  # nothing is left of such a reference
    assert errors("two words", "").wer == 1


def test_diff_of_a_pair_made_by_hand() -> None:
    pieces = word_diff("The cat sat on the old mat.", "So the cat sits on the mat")
    assert pieces == [
        Diff("insert", (), ("so",)),
        Diff("equal", ("the", "cat"), ("the", "cat")),
        Diff("substitute", ("sat",), ("sits",)),
        Diff("equal", ("on", "the"), ("on", "the")),
        Diff("delete", ("old",), ()),
        Diff("equal", ("mat",), ("mat",)),
    ]
    assert word_diff("", "") == []
    assert word_diff("Yes", "yes", "raw") == [Diff("substitute", ("Yes",), ("yes",))]


def test_diff_holds_every_word_and_as_many_errors() -> None:
    for reference, hypothesis in random_pairs(300):
        pieces = word_diff(reference, hypothesis)
        assert [word for piece in pieces for word in piece.reference] == whisper(reference).split()
        assert [word for piece in pieces for word in piece.hypothesis] == whisper(hypothesis).split()
        wrong = sum(max(len(p.reference), len(p.hypothesis)) for p in pieces if p.kind != "equal")
        assert wrong == errors(reference, hypothesis).words.wrong
        for piece in pieces:
            assert (piece.reference == piece.hypothesis) == (piece.kind == "equal")

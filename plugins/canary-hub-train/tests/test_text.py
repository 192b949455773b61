"""Texts: what is trained is never tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from canary_hub_train import text

from canary_hub.errors import HubError


def test_split_is_by_text_alone() -> None:
    rng = np.random.default_rng(0)
    said = {
        kind: [text.draw(rng, kind, [], split) for _ in range(300)]
        for kind in ("digits", "everyday")
        for split in ("train",)
    }
    for texts in said.values():
        long = [t for t in texts if t.count(" ") >= 3]
        assert long
        assert all(text.split_of(t) == "train" for t in long)


def test_both_splits_come_up() -> None:
    rng = np.random.default_rng(1)
    splits = [text.split_of(text.digit_string(rng, 8, 8)) for _ in range(2000)]
    assert 0.01 < splits.count("test") / len(splits) < 0.08


def test_sentences_are_read_cleaned_and_split(tmp_path: Path) -> None:
    lines = [f"src\tthis is sentence {'abcdefghij'[i % 10] * (1 + i // 10)}" for i in range(300)] + ["src\tNot This 1"]
    path = tmp_path / "s.tsv"
    path.write_text("\n".join(lines))
    train, test = text.read_sentences(path, "train"), text.read_sentences(path, "test")
    assert train
    assert test
    assert not set(train) & set(test)
    assert not any("Not" in line for line in train + test)


def test_missing_sentences_are_a_hub_error(tmp_path: Path) -> None:
    with pytest.raises(HubError):
        text.read_sentences(tmp_path / "none.tsv")

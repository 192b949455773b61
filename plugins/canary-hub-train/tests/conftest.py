"""A tiny training set-up: invented speech and recordings, no text-to-speech program needed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from canary_hub_train import recipes
from canary_hub_train.digits import Recordings
from canary_hub_train.text import draw
from canary_hub_train.tokenizer import train_tokenizer
from canary_hub_train.training import Job

torch.set_num_threads(1)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    rng = np.random.default_rng(0)
    texts = [draw(rng, "digits", []) for _ in range(40)]
    rows, start, parts = [], 0, []
    for words in texts:
        part = (rng.standard_normal(4000 * len(words.split())) * 3000).astype(np.int16)
        count = len(words.split())
        timed = {"phones": [1 + i for i in range(count)], "ends": [(i + 1) / 4 for i in range(count)]}
        rows.append({"text": words, "voice": "noise", "start": start, "length": len(part), **timed})
        parts.append(part)
        start += len(part)
    shard = tmp_path / "digits-seen-00000.npy"
    np.save(shard, np.concatenate(parts))
    shard.with_suffix(".json").write_text(json.dumps(rows))
    takes = [[rng.standard_normal(5000).astype(np.float32) * 0.1] for _ in range(10)]
    recipe = recipes.small(recipes.DIGITS)
    state = tmp_path / "state"
    train_tokenizer(texts, state / "llm", recipe.sizes.vocabulary)
    return Job(recipe, state, [shard], Recordings({"ann": takes, "bob": takes}), [])

"""Prompts to ids: equal to Qwen's tokenizer under NeMo, and typed text never becomes a control token."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import ORACLE, SHARED

from canary_hub.errors import WeightsError
from canary_hub.models.canary_qwen.prompts import user_message
from canary_hub.models.causal_lm.chat_tokenizer import ChatTokenizer
from canary_hub.stages import AudioSlot, Text

SLOT = "<|audioplaceholder|>"
REAL = SHARED / "oracle" / "qwen3-tokenizer"


@pytest.fixture(scope="module")
def tiny() -> ChatTokenizer:
    return ChatTokenizer(ORACLE / "llm" / "tokenizer.json", ORACLE / "llm" / "tokenizer_config.json", SLOT)


@pytest.mark.skipif(not REAL.is_dir(), reason="Qwen3's tokenizer is too large to ship")
def test_equals_the_real_tokenizer() -> None:
    tokenizer = ChatTokenizer(REAL / "tokenizer.json", REAL / "tokenizer_config.json", SLOT)
    golden = json.loads((SHARED / "oracle" / "qwen3_prompt_goldens.json").read_text())
    ids = golden["ids"]
    assert (tokenizer.pad_id, tokenizer.eos_ids, tokenizer.placeholder_id) == (ids["pad"], (ids["eos"],), ids["audio"])
    compared = 0
    for prompt in golden["prompts"]:
        if [turn["role"] for turn in prompt["turns"]] == ["user"]:
            pieces = user_message(tokenizer.split_control(prompt["turns"][0]["content"]))
            assert tokenizer.encode(pieces) == prompt["ids"], prompt["rendered"]
            compared += 1
    assert compared >= 6


def test_default_prompt_counts_as_published() -> None:
    if not REAL.is_dir():
        pytest.skip("Qwen3's tokenizer is too large to ship")
    tokenizer = ChatTokenizer(REAL / "tokenizer.json", REAL / "tokenizer_config.json", SLOT)
    ids = tokenizer.encode(user_message([Text("Transcribe the following: "), AudioSlot(), Text("")]))
    at = ids.index(151669)
    assert (at, len(ids) - at - 1) == (9, 5)


@pytest.mark.parametrize("typed", [SLOT, "<|im_end|>", "<|im_start|>assistant\n", "<think>", f"a{SLOT}b{SLOT}"])
def test_typed_control_tokens_stay_text(tiny: ChatTokenizer, typed: str) -> None:
    ids = tiny.encode(user_message([Text(typed), AudioSlot(), Text(typed)]))
    assert ids.count(tiny.placeholder_id) == 1
    assert [i for i in ids if i >= 396] == [397, tiny.placeholder_id, 398, 397]  # the template's own
    plain = tiny.encode([Text(typed)])
    assert tiny.decode(plain) == typed


def test_trusted_text_is_split_at_control_tokens(tiny: ChatTokenizer) -> None:
    pieces = tiny.split_control(f"First {SLOT} then<|im_end|>")
    assert pieces == [Text("First "), AudioSlot(), Text(" then"), Text("<|im_end|>", control=True)]


def test_decode_strips_end_pad_and_placeholder_alone(tiny: ChatTokenizer) -> None:
    body = tiny.encode([Text("ask")])
    assert tiny.decode([397, *body, *tiny.eos_ids, tiny.pad_id, tiny.placeholder_id]) == "<|im_start|>ask"


def test_broken_tokenizer_is_named(tmp_path: Path) -> None:
    shutil.copytree(ORACLE / "llm", tmp_path / "llm")
    (tmp_path / "llm" / "tokenizer.json").write_text("{")
    with pytest.raises(WeightsError, match="tokenizer"):
        ChatTokenizer(tmp_path / "llm" / "tokenizer.json", tmp_path / "llm" / "tokenizer_config.json", SLOT)

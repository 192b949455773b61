"""The LLM of a composite model, with its tokenizer, as an LLM backend."""

from __future__ import annotations

from typing import Any

import torch

from ...errors import WeightsError
from ...stages import Build, WeightFiles
from ...weights.tensors import read_json
from ..causal_lm.backend import CausalLMBackend
from ..causal_lm.chat_tokenizer import ChatTokenizer
from ..cpu import speed_up_single_rows
from .family import Family
from .parts import Parts


class FamilyTokenizer(ChatTokenizer):
    """tokenizer.json with the ids that end an answer from generation_config.json."""

    def __init__(self, checkpoint: WeightFiles, family: Family) -> None:
        super().__init__(checkpoint.file("tokenizer.json"), checkpoint.file("tokenizer_config.json"), family.token)
        self.eos_ids = eos_ids(checkpoint)


def eos_ids(checkpoint: WeightFiles) -> tuple[int, ...]:
    """The ids that end an answer, as `generate` of transformers reads them.

    Raises: WeightsError when generation_config.json is missing or names none.
    """
    path = checkpoint.file("generation_config.json")
    ids = read_json(path).get("eos_token_id")
    if ids is None:
        raise WeightsError(f"{str(path)!r} names no eos_token_id.", "Without it no answer would end.")
    return tuple(int(id) for id in ids) if isinstance(ids, list) else (int(ids),)


class CausalLM(torch.nn.Module):
    """An LLM and its head under the names that the decoding loop uses."""

    def __init__(self, model: Any, lm_head: Any) -> None:
        super().__init__()
        self.model = model
        self.lm_head = lm_head
        self.config = model.config


def load_llm(build: Build, family: Family) -> CausalLM:
    """The family's LLM and head with its checkpoint's weights. Raises: WeightsError."""
    model = CausalLM(*Parts(build, family).llm())
    if build.device == "cpu":
        speed_up_single_rows(model)
    return model


def build_llm(build: Build, family: Family) -> CausalLMBackend:
    """The LLM backend with the tokenizer of the same checkpoint. Raises: WeightsError."""
    return CausalLMBackend(load_llm(build, family), FamilyTokenizer(build.weights[family.role], family))

"""The LLM of a composite model as an LLM backend."""

from __future__ import annotations

from typing import Any

import torch

from ...stages import Build
from ..causal_lm.backend import CausalLMBackend
from ..cpu import speed_up_single_rows
from .family import Family
from .parts import Parts
from .tokenizer import FamilyTokenizer


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

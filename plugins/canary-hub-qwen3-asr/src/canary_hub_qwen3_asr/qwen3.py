"""Component qwen3-asr/qwen3: the Qwen3 inside Qwen3-ASR."""

from __future__ import annotations

from collections.abc import Sequence

from canary_hub.models.causal_lm.backend import CausalLMBackend
from canary_hub.models.families.backend import CausalLM, FamilyTokenizer, load_llm
from canary_hub.stages import Build

from .family import FAMILY, ROLE
from .prompts import ASR_TEXT


class Qwen3ASRBackend(CausalLMBackend):
    """Writes "language English<asr_text>the transcript", or the transcript alone where the prompt says the language."""

    def __init__(self, model: CausalLM, tokenizer: FamilyTokenizer) -> None:
        super().__init__(model, tokenizer)
        self._asr_text = tokenizer.control_id(ASR_TEXT)

    def decode(self, ids: Sequence[int]) -> str:
        """New ids -> the transcript: what follows `<asr_text>`, or everything where there is none."""
        return super().decode(ids[self.left_out(ids) :])

    def left_out(self, ids: Sequence[int]) -> int:
        """The tokens that say the language."""
        return list(ids).index(self._asr_text) + 1 if self._asr_text in ids else 0


def build(build: Build) -> Qwen3ASRBackend:
    """Factory."""
    return Qwen3ASRBackend(load_llm(build, FAMILY), FamilyTokenizer(build.weights[ROLE], FAMILY))

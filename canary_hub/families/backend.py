"""The LLM of a composite model as an LLM backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ..builtin.canary_qwen.cpu import speed_up_single_rows
from ..builtin.canary_qwen.decoding import decode
from ..protocols import Build, RowStop, Segment, Step
from ..specs import Options
from ..weights import module_bytes, parameter_count
from .family import Family
from .options import GenerateCall
from .parts import Parts
from .tokenizer import FamilyTokenizer, Tokens


class CausalLM(torch.nn.Module):
    """An LLM and its head under the names that the decoding loop uses."""

    def __init__(self, model: Any, lm_head: Any) -> None:
        super().__init__()
        self.model = model
        self.lm_head = lm_head
        self.config = model.config


class FamilyBackend:
    """The LLM behind every family's stack."""

    def __init__(self, model: CausalLM, tokenizer: Tokens) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.nbytes = module_bytes(model)
        self.parameters = parameter_count(model)
        self._row_norms: torch.Tensor | None = None

    @property
    def placeholder_id(self) -> int:
        """The id that stands for an audio slot."""
        return self.tokenizer.placeholder_id

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The ids that end an answer."""
        return self.tokenizer.eos_ids

    def tokenize(self, segments: Sequence[Segment]) -> list[int]:
        """Prompt pieces -> ids, one placeholder per audio slot; the N of transformers' processors are the same
        thing, since all of them are overwritten by audio embeddings."""
        return self.tokenizer.encode(segments)

    @torch.inference_mode()
    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """(..., L) int64 -> (..., L, H)."""
        table = self.model.model.embed_tokens
        embeds: torch.Tensor = table(ids.to(table.weight.device))
        return embeds

    def generate(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        options: Options,
        stop: RowStop | None = None,
        attention: bool = False,
    ) -> Iterator[Step]:
        """(B, L, H), (B, L) left-padded -> one `Step` per token."""
        assert isinstance(options, GenerateCall)
        first, *others = self.eos_ids

        def ends(row: int, ids: Sequence[int]) -> bool:
            return ids[-1] in others or (stop is not None and stop(row, ids))

        yield from decode(
            self.model,
            inputs_embeds,
            attention_mask,
            eos_id=first,
            pad_id=self.tokenizer.pad_id,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            seed=options.seed,
            stop=ends,
            attention=attention,
        )

    def decode(self, ids: Sequence[int]) -> str:
        """New ids -> text."""
        return self.tokenizer.decode(ids)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token alone; a control token's name."""
        return [self.tokenizer.piece(id) for id in ids]

    @torch.inference_mode()
    def nearest(self, embeds: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(M, H) -> ids (M, k), cosines (M, k) over the embedding table."""
        table = self.model.model.embed_tokens.weight
        if self._row_norms is None:
            self._row_norms = torch.linalg.vector_norm(table, dim=1, dtype=torch.float32).clamp(min=1e-6)
        x = torch.nn.functional.normalize(embeds.float(), dim=-1).to(table)
        best = ((x @ table.T).float() / self._row_norms).topk(k, dim=-1)
        return best.indices, best.values


def load_llm(build: Build, family: Family) -> CausalLM:
    """The family's LLM and head with its checkpoint's weights. Raises: WeightsError."""
    model = CausalLM(*Parts(build, family).llm())
    if build.device == "cpu":
        speed_up_single_rows(model)
    return model


def build_llm(build: Build, family: Family) -> FamilyBackend:
    """The LLM backend with the tokenizer of the same checkpoint. Raises: WeightsError."""
    return FamilyBackend(load_llm(build, family), FamilyTokenizer(build.weights[family.role], family))

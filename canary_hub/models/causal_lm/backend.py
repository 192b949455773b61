"""A causal LM of transformers as an LLM backend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch

from ...specs import Options
from ...stages import RowStop, Segment, Step
from ...weights.tensors import module_bytes, parameter_count
from .decoding import decode
from .options import AdapterCall, GenerateCall


class Tokens(Protocol):
    """What the backend asks of a tokenizer."""

    placeholder_id: int
    pad_id: int
    eos_ids: tuple[int, ...]

    def encode(self, segments: Sequence[Segment]) -> list[int]:
        """Prompt pieces -> ids; only a control piece becomes a control token."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """New ids -> text, without the ids that end or pad an answer."""
        ...

    def piece(self, id: int) -> str:
        """The text of one id alone: a control token's name, and "\\ufffd" for part of a character."""
        ...


class CausalLMBackend:
    """Decodes with a module that has `model`, `lm_head` and `config`, as transformers names them."""

    def __init__(self, model: Any, tokenizer: Tokens) -> None:
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
        yield from decode(
            self.model,
            inputs_embeds,
            attention_mask,
            eos_ids=self.eos_ids,
            pad_id=self.tokenizer.pad_id,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            seed=options.seed,
            stop=stop,
            attention=attention,
        )

    def decode(self, ids: Sequence[int]) -> str:
        """New ids -> text."""
        return self.tokenizer.decode(ids)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token alone."""
        return [self.tokenizer.piece(id) for id in ids]

    @torch.inference_mode()
    def nearest(self, embeds: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(M, H) -> ids (M, k), cosines (M, k) over the embedding table, which is read once."""
        table = self.model.model.embed_tokens.weight
        if self._row_norms is None:
            self._row_norms = torch.linalg.vector_norm(table, dim=1, dtype=torch.float32).clamp(min=1e-6)
        x = torch.nn.functional.normalize(embeds.float(), dim=-1).to(table)
        best = ((x @ table.T).float() / self._row_norms).topk(k, dim=-1)
        return best.indices, best.values


class AdapterBackend(CausalLMBackend):
    """With a LoRA adapter that can be switched off; it is on at first.

    switch: turns the adapter on or off in the module.
    extra_bytes: weights kept beside those in use.
    """

    def __init__(self, model: Any, tokenizer: Tokens, switch: Callable[[bool], None], extra_bytes: int = 0) -> None:
        super().__init__(model, tokenizer)
        self.nbytes += extra_bytes
        self._switch = switch
        self._adapter_on = True
        self._lock = threading.Lock()

    def generate(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        options: Options,
        stop: RowStop | None = None,
        attention: bool = False,
    ) -> Iterator[Step]:
        """(B, L, H), (B, L) left-padded -> one `Step` per token. One generation at a time: the adapter is a state
        of the module."""
        assert isinstance(options, AdapterCall)
        with self._lock:
            if options.adapter is not self._adapter_on:
                self._switch(options.adapter)
                self._adapter_on = options.adapter
            yield from super().generate(inputs_embeds, attention_mask, options, stop, attention)

    def chat_options(self, options: Options) -> Options:
        """LLM mode runs without the adapter (NeMo: `with self.llm.disable_adapter()`)."""
        return options.model_copy(update={"adapter": False})


class MergedLinears:
    """Linears whose weight has the update of a LoRA adapter added, with their base weights beside.

    The base weights are mapped from the file, so they cost no memory until they are used.
    """

    def __init__(self) -> None:
        self._linears: list[tuple[Any, torch.nn.Parameter, torch.nn.Parameter]] = []

    def merge(self, linear: Any, merged: torch.Tensor) -> None:
        """Put `merged` (out, in) in the place of the weight, which is kept."""
        weight = torch.nn.Parameter(merged, requires_grad=False)
        self._linears.append((linear, linear.weight, weight))
        linear.weight = weight

    def switch(self, on: bool) -> None:
        """The merged weights, or the base ones."""
        for linear, base, merged in self._linears:
            linear.weight = merged if on else base

    @property
    def base_bytes(self) -> int:
        """Bytes of the base weights."""
        return sum(base.nbytes for _, base, _ in self._linears)

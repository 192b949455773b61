"""Component canary/qwen3: Qwen3 with the LoRA update merged at load.

The base q and v weights stay beside the merged ones (mapped from the file, so they cost no memory
until used), so LLM mode can switch the adapter off without a second model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from ...protocols import Build, RowStop, Segment, Step, Text
from ...specs import Options, WeightsRef
from ...weights import Checkpoint, TensorFiles, assign, module_bytes, parameter_count
from . import BASE_LLM, CHECKPOINT
from .checkpoint import open_checkpoint
from .cpu import ATTENTION, speed_up_single_rows
from .decoding import decode
from .layout import EMBEDDINGS, get, llm_name, lora_names, lora_scaling, lora_targets
from .options import Qwen3Call
from .prompts import user_message
from .tokenizer import ChatTokenizer


class Qwen3Backend:
    """The LLM behind canary/qwen3 and canary/qwen3-peft.

    model: the Qwen3 module (LoRA merged or live inside).
    switch: turns the adapter on or off in that module.
    """

    def __init__(
        self, model: Qwen3ForCausalLM, tokenizer: ChatTokenizer, switch: Callable[[bool], None], nbytes: int
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.nbytes = nbytes
        self.parameters = parameter_count(model)
        self._switch = switch
        self._adapter_on = True
        self._row_norms: torch.Tensor | None = None
        self._lock = threading.Lock()

    @property
    def placeholder_id(self) -> int:
        """The id that stands for an audio slot."""
        return self.tokenizer.placeholder_id

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The end of a turn alone, as NeMo stops (Qwen's own generation config also stops at pad)."""
        return (self.tokenizer.eos_id,)

    def tokenize(self, segments: Sequence[Segment]) -> list[int]:
        """Prompt pieces -> ids."""
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
        """(B, L, H), (B, L) left-padded -> one `Step` per token. One generation at a time: the adapter
        is a state of the module."""
        assert isinstance(options, Qwen3Call)
        with self._lock:
            self._use_adapter(options.adapter)
            yield from decode(
                self.model,
                inputs_embeds,
                attention_mask,
                eos_id=self.tokenizer.eos_id,
                pad_id=self.tokenizer.pad_id,
                max_new_tokens=options.max_new_tokens,
                temperature=options.temperature,
                seed=options.seed,
                stop=stop,
                attention=attention,
            )

    def _use_adapter(self, on: bool) -> None:
        if on is not self._adapter_on:
            self._switch(on)
            self._adapter_on = on

    def decode(self, ids: Sequence[int]) -> str:
        """New ids -> text."""
        return self.tokenizer.decode(ids)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token alone; a control token's name, and "\\ufffd" for part of a character."""
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

    def chat_segments(self, message: str) -> list[Segment]:
        """A user message as a chat prompt without audio."""
        return user_message([Text(message)])

    def chat_options(self, options: Options) -> Options:
        """LLM mode runs without the adapter (NeMo: `with self.llm.disable_adapter()`)."""
        return options.model_copy(update={"adapter": False})


def load_tokenizer(build: Build) -> ChatTokenizer:
    """The base LLM's tokenizer with the checkpoint's placeholder."""
    base = build.weights[BASE_LLM]
    return ChatTokenizer(
        base.file("tokenizer.json"),
        base.file("tokenizer_config.json"),
        get(build.weights[CHECKPOINT].config, "audio_locator_tag"),
    )


def qwen3_config(build: Build) -> Qwen3Config:
    """The base LLM's config.json as transformers' config."""
    return Qwen3Config.from_dict(dict(build.weights[BASE_LLM].config), attn_implementation=ATTENTION)


def embeddings(build: Build, files: TensorFiles) -> torch.Tensor:
    """(V, H), from the checkpoint, else from the base LLM's own weights."""
    if EMBEDDINGS in files:
        return files.tensor(EMBEDDINGS)
    ref = build.weights[BASE_LLM].ref
    base = Checkpoint(replace(ref, files=WeightsRef.files, gib=None)) if ref.repo else build.weights[BASE_LLM]
    return base.tensors().tensor("model.embed_tokens.weight")


def place_rope(model: Qwen3ForCausalLM, device: str) -> None:
    """The rotary frequencies are not in any file: compute them outside the meta device."""
    model.model.rotary_emb = type(model.model.rotary_emb)(config=model.config).to(device)


def build(build: Build) -> Qwen3Backend:
    """Factory: on the meta device, filled from the mapped file, then q and v get scaling * B A added."""
    files = open_checkpoint(build)
    config = build.weights[CHECKPOINT].config
    dtype = getattr(torch, build.dtype)
    targets = lora_targets(config)
    table = embeddings(build, files).to(build.device, dtype)
    with torch.device("meta"):
        model = Qwen3ForCausalLM(qwen3_config(build))

    def source(name: str) -> torch.Tensor:
        if llm_name(name) == EMBEDDINGS:
            return table
        return files.tensor(llm_name(name, lora=name.split(".")[-2] in targets))

    assign(model, source, dtype, build.device)
    place_rope(model, build.device)
    # In bfloat16 the product is summed and the base added in float32, then rounded once: the same numbers
    # as merging in float32 and rounding, at half the time and a fraction of the memory.
    exact = dtype if dtype == torch.bfloat16 else torch.float32
    wrapped: list[tuple[Any, torch.nn.Parameter, torch.nn.Parameter]] = []
    for name, linear in model.named_modules():
        if name.rsplit(".", 1)[-1] in targets:
            base, a, b = (
                files.tensor(part).to(build.device, exact)
                for part in (llm_name(f"{name}.weight", lora=True), *lora_names(name))
            )
            merged = torch.addmm(base, b, a, alpha=lora_scaling(config)).to(dtype)
            wrapped.append((linear, linear.weight, torch.nn.Parameter(merged, requires_grad=False)))

    def switch(on: bool) -> None:
        for linear, base, merged in wrapped:
            linear.weight = merged if on else base

    switch(True)
    if build.device == "cpu":
        speed_up_single_rows(model)
    nbytes = module_bytes(model) + sum(base.nbytes for _, base, _ in wrapped)
    return Qwen3Backend(model, load_tokenizer(build), switch, nbytes)

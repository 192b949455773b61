"""Components openvino/qwen3 and openvino/qwen3-int8: the Qwen3 of canary/qwen3 through OpenVINO.

LoRA is not merged: it is 1.8 % of the weights, and so one graph serves LLM mode, too, where merged weights would need
a second copy of all.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import openvino as ov
import torch
from transformers import DynamicCache

from canary_hub.models.canary_qwen import llm as built_in
from canary_hub.models.canary_qwen.checkpoint import BASE_LLM, CHECKPOINT, open_checkpoint
from canary_hub.models.canary_qwen.layout import (
    EMBEDDINGS,
    LLM_PREFIX,
    TIED_HEAD,
    llm_name,
    lora_names,
    lora_scaling,
    lora_targets,
)
from canary_hub.stages import Build, Tensors

from . import graph
from .compiled import check, compiled
from .exported import exported, nbytes


class Layers(torch.nn.Module):
    """The compiled layers, called as the decoding loop calls transformers' Qwen3Model.

    The cache object of a generation stands for its infer request, which holds the keys and values, so generations
    do not touch each other's.
    """

    def __init__(self, layers: ov.CompiledModel, table: torch.Tensor) -> None:
        super().__init__()
        self.embed_tokens = torch.nn.Embedding.from_pretrained(table)
        self.adapter = True
        self._layers = layers
        self._requests: WeakKeyDictionary[Any, ov.InferRequest] = WeakKeyDictionary()

    def forward(
        self,
        input_ids: None,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor,
        cache: Any,
        inputs_embeds: torch.Tensor,
        **others: Any,
    ) -> SimpleNamespace:
        """(B, L, H), mask (B, S) or None without padding, positions (B, L) -> last_hidden_state (B, L, H) float32."""
        request = self._requests.get(cache)
        if request is None:
            request = self._requests[cache] = self._layers.create_infer_request()
        rows = len(inputs_embeds)
        if attention_mask is None:
            attention_mask = torch.ones(rows, int(position_ids[0, -1]) + 1)
        hidden = request.infer(
            {
                "inputs_embeds": inputs_embeds.float().numpy(),
                "attention_mask": attention_mask.long().numpy(),
                "position_ids": position_ids.expand(rows, -1).numpy(),
                "beam_idx": np.arange(rows, dtype=np.int32),
                "adapter": np.float32(self.adapter),
            },
            share_outputs=True,
        )["hidden"]
        return SimpleNamespace(last_hidden_state=torch.from_numpy(hidden))


class Head(torch.nn.Module):
    """The compiled head: (B, H) -> logits (B, V) float32."""

    def __init__(self, head: ov.CompiledModel) -> None:
        super().__init__()
        self._request = head.create_infer_request()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, H) -> (B, V), a new tensor every time."""
        return torch.from_numpy(self._request.infer({"hidden": hidden.numpy()})["logits"])


class OpenVINOModel(torch.nn.Module):
    """What the decoding loop asks of a causal LM: `model`, `lm_head`, `config`."""

    def __init__(self, config: Any, layers: Layers, head: Head) -> None:
        super().__init__()
        self.config, self.model, self.lm_head = config, layers, head

    @torch.inference_mode()
    def warm_up(self) -> None:
        """One step: OpenVINO brings the weights into its own layout at the first one, for seconds."""
        embeds = torch.zeros(1, 2, self.config.hidden_size)
        hidden = self.model(None, None, torch.arange(2)[None], DynamicCache(), embeds)
        self.lm_head(hidden.last_hidden_state[:, -1])

    def get_output_embeddings(self) -> torch.nn.Module:
        """The head, under transformers' name for it."""
        return self.lm_head


def build(build: Build) -> built_in.Qwen3Backend:
    """Factory of openvino/qwen3. Raises: HubError off the CPU, WeightsError."""
    return _build(build, "openvino/qwen3", int8=False)


def build_int8(build: Build) -> built_in.Qwen3Backend:
    """Factory of openvino/qwen3-int8. Raises: HubError off the CPU, WeightsError."""
    return _build(build, "openvino/qwen3-int8", int8=True)


def _build(build: Build, name: str, int8: bool) -> built_in.Qwen3Backend:
    check(build, name)
    files = open_checkpoint(build)
    config = built_in.empty_model(build).config
    table = built_in.embeddings(build, files).to(getattr(torch, build.dtype))

    def export() -> Mapping[str, ov.Model]:
        models = {"layers": _layers_graph(build, config, files), "head": graph.head(table)}
        return {part: _in_int8(model) for part, model in models.items()} if int8 else models

    sources = [build.weights[CHECKPOINT]]
    if EMBEDDINGS not in files:
        sources.append(build.weights[BASE_LLM])
    name = f"qwen3-{'int8-' if int8 else ''}{build.dtype}"
    paths = exported(name, sources, ("nncf",) if int8 else (), export)
    layers = Layers(compiled(paths["layers"], build.dtype), table)
    model = OpenVINOModel(config, layers, Head(compiled(paths["head"], build.dtype)))
    model.warm_up()

    def switch(on: bool) -> None:
        layers.adapter = on

    backend = built_in.Qwen3Backend(model, built_in.load_tokenizer(build), switch, nbytes(paths.values()))
    names = [name for name in files if name.startswith(LLM_PREFIX) and name != TIED_HEAD]
    backend.parameters = table.numel() + sum(math.prod(files[name]) for name in names)
    return backend


def _in_int8(model: ov.Model) -> ov.Model:
    """The weights of all linears rounded to int8, with a scale per output channel."""
    import nncf

    nncf.set_log_level(logging.WARNING)
    with redirect_stdout(StringIO()):  # a progress bar
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)


def _layers_graph(build: Build, config: Any, files: Tensors) -> ov.Model:
    targets = lora_targets(build.weights[CHECKPOINT].config)
    dtype = getattr(torch, build.dtype)

    def is_wrapped(module: str) -> bool:
        return module.rsplit(".", 1)[-1] in targets

    def weight(name: str) -> torch.Tensor:
        return files.tensor(llm_name(name, lora=is_wrapped(name.rsplit(".", 1)[0]))).to(dtype)

    def adapter(module: str) -> tuple[torch.Tensor, torch.Tensor] | None:
        if not is_wrapped(module):
            return None
        a, b = (files.tensor(name) for name in lora_names(module))
        return a.to(dtype), (b.float() * lora_scaling(build.weights[CHECKPOINT].config)).to(dtype)

    return graph.qwen3(config, weight, adapter)

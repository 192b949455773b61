"""How a stack's checkpoint is laid out: which tensors its configuration asks for, and which module each fills."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..models.canary_qwen.layout import (
    EMBEDDINGS,
    FILTERBANK,
    PROJECTION,
    WINDOW,
    checkpoint_shapes,
    encoder_name,
    llm_name,
    lora_names,
    lora_targets,
)
from ..specs import Stage

Filled = Mapping[str, tuple[str, str]]
"""A tensor's name -> the stage it belongs to, and the tensor of that stage's module that it fills."""


class Layout(Protocol):
    """The names in a checkpoint.

    tied: (a module's tensor, the tensor of the file that it shares).
    """

    tied: tuple[tuple[str, str], ...]

    def todays(self, name: str) -> str:
        """A name in the file -> the one by which the rest knows it."""
        ...

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor that the configuration asks for."""
        ...

    def filled(self) -> Filled:
        """Where each tensor goes, as the components load them; those of an adapter may be here alone."""
        ...


class PublishedLayout:
    """That of nvidia/canary-qwen-2.5b.

    Args:
        config, llm_config: the config.json of the checkpoint and of the base LLM.
    """

    def __init__(self, config: Mapping[str, Any], llm_config: Mapping[str, Any]) -> None:
        self._config, self._llm = config, llm_config
        self.tied: tuple[tuple[str, str], ...] = (
            (("lm_head.weight", EMBEDDINGS),) if llm_config.get("tie_word_embeddings") else ()
        )

    def todays(self, name: str) -> str:
        """The same."""
        return name

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """With LoRA's two factors beside each linear that it wraps."""
        return checkpoint_shapes(self._config, self._llm)

    def filled(self) -> Filled:
        """By the names of the Canary-Qwen components."""
        import torch
        from transformers import ParakeetEncoder

        from ..models.canary_qwen.encoder import encoder_config
        from .structure import empty_llm

        with torch.device("meta"):
            encoder = ParakeetEncoder(encoder_config(self._config))
        llm, wrapped = empty_llm(self._llm), lora_targets(self._config)
        found = {
            FILTERBANK: (Stage.PREPROCESSOR.value, "mel_filters"),
            WINDOW: (Stage.PREPROCESSOR.value, "window"),
            f"{PROJECTION}.weight": (Stage.PROJECTOR.value, "weight"),
            f"{PROJECTION}.bias": (Stage.PROJECTOR.value, "bias"),
        }
        for name in encoder.state_dict():
            found[encoder_name(name)] = (Stage.ENCODER.value, name)
        for name in llm.state_dict():
            module = name.rsplit(".", 1)[0]
            lora = module.rsplit(".", 1)[-1] in wrapped
            in_file = llm_name(name, lora=lora)
            found.setdefault(in_file, (Stage.LLM.value, name))
            if lora:
                for factor in lora_names(module):
                    found[factor] = (Stage.LLM.value, f"{name} += scaling * B A")
        return found

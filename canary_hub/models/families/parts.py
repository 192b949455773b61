"""One module of a composite checkpoint: built on the meta device with the whole model, filled alone.

The whole model exists on the meta device only, where it says which tensors the checkpoint must hold; the
stages load their own module each, so a stack that swaps a stage never reads the weights of that stage.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from ...errors import HubError, WeightsError
from ...stages import Build
from ...weights.tensors import TensorFiles, assign, check_names, read_json
from ..cpu import ATTENTION
from .family import Family

HEAD = "lm_head.weight"

# Checkpoints saved before transformers 5 name the parts without "model." and keep the LLM with its head as one
# module. Source: transformers 5.23 `conversion_mapping.py`, "qwen2_audio" and "granite_speech".
_OLDER = (
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
    (re.compile(r"^language_model\.model\."), "model.language_model."),
    (re.compile(r"^(language_model|audio_tower|multi_modal_projector|encoder|projector)\."), r"model.\1."),
)


class _Renamed(TensorFiles):
    """A checkpoint's tensors under the names that transformers' model has today."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._name = {todays_name(name): name for name in super().__iter__()}

    def __getitem__(self, name: str) -> tuple[int, ...]:
        return super().__getitem__(self._name[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._name)

    def dtype(self, name: str) -> str:
        """The dtype in the file."""
        return super().dtype(self._name[name])

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor in the file's dtype, mapped."""
        return super().tensor(self._name[name])


def todays_name(name: str) -> str:
    """A checkpoint's tensor name -> the one it has in transformers' model today."""
    for pattern, today in _OLDER:
        if pattern.match(name):
            return pattern.sub(today, name)
    return name


class Parts:
    """A family's checkpoint, every tensor of it accounted for, ready to give its modules.

    config: transformers' config of the whole model.
    model: the whole model on the meta device.

    Raises: WeightsError naming missing, unexpected and wrongly shaped tensors, or for a config.json that is not
        one of this family; HubError when the installed transformers is too old.
    """

    def __init__(self, build: Build, family: Family) -> None:
        checkpoint = build.weights[family.role]
        self.files = _Renamed(checkpoint.folder())
        # The repository's own, now that it is here: the copy that ships with a plugin is for contracts.
        path = checkpoint.file("config.json")
        self.model, self.tied = empty_model(family, read_json(path), self.files, str(path))
        self.config: Any = self.model.config
        self._build, self._family = build, family
        check_names(self.files, shapes_of(self.model, self.tied))

    def module(self, name: str) -> Any:
        """The submodule of that name, filled with the checkpoint's tensors in the build's dtype."""
        part = self.model.get_submodule(name)
        _compute_buffers(self.model, part, self._build.device)
        dtype: torch.dtype = getattr(torch, self._build.dtype)
        assign(part, partial(self._tensor, name), dtype, self._build.device)
        return part

    def _tensor(self, part: str, name: str) -> torch.Tensor:
        return self.files.tensor(f"{part}.{name}")

    def encoder(self) -> Any:
        """The filled encoder."""
        return self.module(self._family.encoder)

    def projector(self) -> Any:
        """The filled projector."""
        return self.module(self._family.projector)

    def llm(self) -> tuple[Any, Any]:
        """The filled LLM without its head, and the head, tied to the embeddings where the config says so."""
        llm = self.module(self._family.llm)
        if not self.tied:
            return llm, self.module("lm_head")
        head = self.model.lm_head
        head.weight = llm.embed_tokens.weight
        return llm, head.eval()


def empty_model(
    family: Family, config: Mapping[str, Any], names: Collection[str], source: str = "config.json"
) -> tuple[Any, bool]:
    """The family's whole model on the meta device, and whether its head is the table of its embeddings.

    Args:
        config: the checkpoint's config.json; source: what to call it.
        names: of the checkpoint's tensors, as the model has them today.

    Raises: WeightsError for a config.json that is not one of this family; HubError when the installed transformers
        is too old.
    """
    model_class = getattr(transformers, family.model, None)
    if model_class is None:
        raise HubError(
            f"transformers {transformers.__version__} has no {family.model}.", "pip install --upgrade transformers"
        )
    wanted = model_class.config_class.model_type
    if config.get("model_type") != wanted:
        raise WeightsError(
            f"{source!r} is of a model of type {config.get('model_type')!r}; {family.role} reads {wanted!r}.",
            "Give a folder or repository of that model.",
        )
    try:
        read = model_class.config_class.from_dict(dict(config))
        read.text_config._attn_implementation = ATTENTION
        with torch.device("meta"):
            model = model_class(read)
    except Exception as error:  # transformers raises whatever its checks and modules do
        raise WeightsError(
            f"transformers builds no {family.model} from {source!r}: {error}.", "Was the file altered?"
        ) from error
    # A head that is in the file is used, whatever the config says: GLM-ASR's differs from the embeddings.
    # Classes that never tie have configs that do not know the word.
    ties = bool(model_class._tied_weights_keys and read.tie_word_embeddings)
    return model, ties and HEAD not in names


def shapes_of(model: Any, tied: bool) -> dict[str, tuple[int, ...]]:
    """The tensors that a checkpoint of the model must hold; a tied head is none of its own."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if not tied or name != HEAD}


def _compute_buffers(model: Any, part: torch.nn.Module, device: str) -> None:
    """Compute the tables that are in no file (rotary frequencies, sinusoids) by the model's own `_init_weights`, as
    transformers does after it has built a model on the meta device."""
    for module in part.modules():
        for name in module._non_persistent_buffers_set:
            buffer = getattr(module, name)
            setattr(module, name, torch.empty_like(buffer, device=device))
        if module._non_persistent_buffers_set:
            with torch.no_grad():
                model._init_weights(module)

"""The published Whisper checkpoints, and opening one with every tensor of it accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import WeightsError
from ...specs import WeightsRef
from ...stages import Build
from ...weights.tensors import TensorFiles, assign, check_names, read_json

if TYPE_CHECKING:
    import torch

WHISPER = "whisper"
"""The role of the weights."""

SCALE = ".scale"
"""A matrix in int8 has its scales, one per output channel, in a tensor of its name and this."""

_HEAD = "proj_out.weight"  # tied to the decoder's embeddings


def published(name: str, revision: str, gib: float) -> WeightsRef:
    """openai/whisper-NAME at a pinned revision; a copy of its config.json ships here, for contracts."""
    return WeightsRef(
        repo=f"openai/whisper-{name}",
        revision=revision,
        files=(*WeightsRef.files, "generation_config.json", "tokenizer.json"),
        config=Path(__file__).parent / "published" / f"{name}.json",
        gib=gib,
    )


class Dequantised(TensorFiles):
    """A checkpoint whose matrices may be int8 with a scale per output channel: read as floats, scales unseen."""

    def __iter__(self) -> Iterator[str]:
        return (name for name in super().__iter__() if not name.endswith(SCALE))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def dtype(self, name: str) -> str:
        """That of the scales for a matrix in int8, else the file's."""
        return super().dtype(name + SCALE if name + SCALE in self._where else name)

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor; one in int8 (out, ...) times its scales (out,), in float32."""
        values = super().tensor(name)
        if name + SCALE not in self._where:
            return values
        scales = super().tensor(name + SCALE).float()
        return values.float() * scales.reshape(-1, *[1] * (values.dim() - 1))


class WhisperCheckpoint:
    """A checkpoint in the layout of openai/whisper-*, ready to give its two halves.

    Raises: WeightsError naming missing, unexpected and wrongly shaped tensors, or for a config.json of another model.
    """

    def __init__(self, build: Build) -> None:
        import torch
        from transformers import WhisperConfig, WhisperForConditionalGeneration

        from ..cpu import ATTENTION

        checkpoint = build.weights[WHISPER]
        path = checkpoint.file("config.json")
        config = read_json(path)
        if config.get("model_type") != "whisper":
            raise WeightsError(
                f"{str(path)!r} is of a model of type {config.get('model_type')!r}, not of a Whisper.",
                "Give a folder or repository in the layout of openai/whisper-tiny.en.",
            )
        self._build = build
        self.files = Dequantised(checkpoint.folder())
        try:
            self.config: Any = WhisperConfig.from_dict(config)
            self.config._attn_implementation = ATTENTION
            with torch.device("meta"):
                self._model: Any = WhisperForConditionalGeneration(self.config)
        except Exception as error:  # whatever a config can do to a constructor
            raise WeightsError(
                f"transformers builds no Whisper from {str(path)!r}: {error}.", "Was it altered?"
            ) from error
        shapes = {name: tuple(tensor.shape) for name, tensor in self._model.state_dict().items() if name != _HEAD}
        check_names(self.files, shapes, unused=[_HEAD])

    @cached_property
    def generation(self) -> dict[str, Any]:
        """generation_config.json: suppressed tokens, alignment heads, languages. Raises: WeightsError."""
        return read_json(self._build.weights[WHISPER].file("generation_config.json"))

    @property
    def tokenizer(self) -> Path:
        """tokenizer.json. Raises: WeightsError."""
        return self._build.weights[WHISPER].file("tokenizer.json")

    def encoder(self) -> Any:
        """transformers' encoder with its weights."""
        return self._filled("model.encoder")

    def decoder(self) -> Any:
        """transformers' decoder with its weights; its embeddings are also its head."""
        return self._filled("model.decoder")

    def _filled(self, name: str) -> Any:
        import torch

        module = self._model.get_submodule(name)
        dtype: torch.dtype = getattr(torch, self._build.dtype)
        assign(module, partial(self._tensor, name), dtype, self._build.device)
        return module

    def _tensor(self, part: str, name: str) -> torch.Tensor:
        return self.files.tensor(f"{part}.{name}")

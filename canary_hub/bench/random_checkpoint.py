"""Checkpoints of noise in the published layout and at full size: what loads and runs like the real one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import HubError

if TYPE_CHECKING:
    import torch

_PLACEHOLDER_AFTER_END = 24
"""In Qwen3's vocabulary: 151669 - 151645."""


def write_random_checkpoint(
    folder: Path, config: Mapping[str, Any], llm_config: Mapping[str, Any], seed: int = 0
) -> Path:
    """Write a checkpoint of bfloat16 noise in the published layout, with `llm/` beside it for the base LLM.

    Norms are 1, biases 0 and weights small, so that all numbers stay finite; filterbank and window
    are real. It is written beside `folder` and then renamed; one that is there already is kept.

    Args:
        config, llm_config: the checkpoint's and the base LLM's config.json.

    Returns: the folder, with config.json, model.safetensors and llm/ (config.json and a stand-in
        tokenizer). Raises: HubError when the disk is full.
    """
    if _is_whole(folder, config, llm_config):
        return folder
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "llm").mkdir(parents=True)
        _write_tensors(partial / "model.safetensors", config, llm_config, seed)
        for path, content in (
            (partial / "config.json", config),
            (partial / "llm" / "config.json", llm_config),
            (partial / "llm" / "tokenizer.json", _stand_in_tokenizer(config, llm_config)),
            (partial / "llm" / "tokenizer_config.json", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}),
        ):
            path.write_text(json.dumps(content, indent=1), "utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except OSError as error:
        raise HubError(
            f"The random checkpoint cannot be written to {str(folder)!r}: {error}.",
            "Set CANARY_HUB_CACHE to a folder on another disk.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _is_whole(folder: Path, config: Mapping[str, Any], llm_config: Mapping[str, Any]) -> bool:
    try:
        there = [json.loads((folder / name).read_text("utf-8")) for name in ("config.json", "llm/config.json")]
    except (OSError, ValueError):
        return False
    return there == [dict(config), dict(llm_config)] and (folder / "model.safetensors").is_file()


def _write_tensors(path: Path, config: Mapping[str, Any], llm_config: Mapping[str, Any], seed: int) -> None:
    """Tensor after tensor straight into the file: memory holds one of them at a time."""
    import torch

    from ..models.canary_qwen.layout import checkpoint_shapes

    header: dict[str, dict[str, Any]] = {}
    at = 0
    shapes = checkpoint_shapes(config, llm_config)
    for name, shape in shapes.items():
        counter = name.endswith("num_batches_tracked")
        size = (8 if counter else 2) * torch.Size(shape).numel()
        header[name] = {"dtype": "I64" if counter else "BF16", "shape": shape, "data_offsets": (at, at + size)}
        at += size
    room = shutil.disk_usage(path.parent).free
    if room < at + 2**28:
        raise HubError(
            f"{str(path.parent)!r} has {room / 2**30:.1f} GiB free; a random checkpoint takes {at / 2**30:.1f} GiB.",
            "Free some space, or set CANARY_HUB_CACHE to a folder on a larger disk.",
        )
    start = json.dumps(header, separators=(",", ":")).encode()
    start += b" " * (-len(start) % 8)
    generator = torch.Generator().manual_seed(seed)
    with path.open("wb") as file:
        file.write(len(start).to_bytes(8, "little") + start)
        for name, shape in shapes.items():
            _write(file, _random_tensor(name, shape, config, generator))


def _write(file: BinaryIO, tensor: torch.Tensor) -> None:
    import torch

    file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _random_tensor(
    name: str, shape: tuple[int, ...], config: Mapping[str, Any], generator: torch.Generator
) -> torch.Tensor:
    """The values of one tensor, by its name."""
    import torch

    from ..models.canary_qwen.layout import FILTERBANK, WINDOW

    if name == FILTERBANK:
        return _filterbank(config).bfloat16().reshape(shape)
    if name == WINDOW:
        return torch.hann_window(shape[0], periodic=False).bfloat16()
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if len(shape) < 2:
        filled = torch.zeros if name.endswith(("bias", "running_mean")) else torch.ones
        return filled(shape, dtype=torch.bfloat16)
    fan_in = torch.Size(shape[1:]).numel()
    return torch.empty(shape, dtype=torch.bfloat16).normal_(0.0, fan_in**-0.5, generator=generator)


def _filterbank(config: Mapping[str, Any]) -> torch.Tensor:
    """(n_mels, n_fft // 2 + 1), Slaney's scale and norm as NeMo takes them."""
    import torch
    from transformers.audio_utils import mel_filter_bank

    pre = config["perception"]["preprocessor"]
    bank = mel_filter_bank(
        num_frequency_bins=pre["n_fft"] // 2 + 1,
        num_mel_filters=pre["features"],
        min_frequency=0.0,
        max_frequency=pre["sample_rate"] / 2,
        sampling_rate=pre["sample_rate"],
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(bank).T


def _stand_in_tokenizer(config: Mapping[str, Any], llm_config: Mapping[str, Any]) -> dict[str, Any]:
    """tokenizer.json that knows no word, only where one ends, and the Qwen special tokens at their ids,
    counted from eos_token_id: a prompt takes as many positions as with the real one, or nearly."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    end = int(llm_config["eos_token_id"])
    special = {"<|endoftext|>": end - 2, "<|im_start|>": end - 1, "<|im_end|>": end}
    special[config["audio_locator_tag"]] = end + _PLACEHOLDER_AFTER_END
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, **special}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(list(special))
    spec: dict[str, Any] = json.loads(tokenizer.to_str())
    return spec

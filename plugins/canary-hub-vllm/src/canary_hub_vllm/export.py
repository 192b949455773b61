"""The merged LLM as a folder in transformers' own layout, which is what vLLM reads.

It is written once, to the cache folder, under a name that follows from the content of the weights.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from canary_hub.errors import HubError
from canary_hub.models.canary_qwen import llm as qwen3
from canary_hub.models.canary_qwen.checkpoint import BASE_LLM, CHECKPOINT
from canary_hub.settings import cache_folder
from canary_hub.stages import Build

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
LAYOUT = 1
"""Grows when the same weights have to be written differently."""


def exported(build: Build) -> Path:
    """The folder with config.json, model.safetensors and the tokenizer; written where it is not there yet.

    The numbers are those of canary/qwen3 in `build.dtype`: its own factory merges them.
    Raises: WeightsError for tensors that are not Canary-Qwen's; HubError when the folder cannot be written.
    """
    folder = cache_folder("vllm") / _key(build)
    if folder.is_dir():
        return folder
    model = qwen3.build(replace(build, device="cpu")).model
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside the folder, then renamed: whoever finds it finds all of it.
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as beside:
            partial = Path(beside) / folder.name
            partial.mkdir()
            # The head is the embedding table. One file: vLLM maps it, whatever its size.
            tensors = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
            save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
            for name in TOKENIZER:
                shutil.copyfile(build.weights[BASE_LLM].file(name), partial / name)
            (partial / "config.json").write_text(json.dumps(_config(build), indent=1), "utf-8")
            if not folder.is_dir():  # another process may have been faster
                partial.rename(folder)
    except (OSError, SafetensorError) as error:
        raise HubError(
            f"The merged LLM cannot be written to {str(folder)!r}: {error}.",
            "Free some space, or set CANARY_HUB_CACHE to a folder on another disk.",
        ) from error
    return folder


def _config(build: Build) -> dict[str, object]:
    return {
        **build.weights[BASE_LLM].config,
        "architectures": ["Qwen3ForCausalLM"],
        "tie_word_embeddings": True,
        "torch_dtype": build.dtype,
    }


def _key(build: Build) -> str:
    """Of everything that the folder's content follows from: weights, configs, tokenizer, dtype."""
    checkpoint, base = build.weights[CHECKPOINT], build.weights[BASE_LLM]
    configs = json.dumps([LAYOUT, build.dtype, checkpoint.config, base.config, base.name], sort_keys=True)
    digest = hashlib.sha256(configs.encode())
    tensors = [*_tensor_files(checkpoint.folder()), *_tensor_files(base.file(TOKENIZER[0]).parent)]
    for path in [*tensors, *(base.file(name) for name in TOKENIZER)]:
        digest.update(_content(path).encode())
    return digest.hexdigest()[:16]


def _tensor_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _content(path: Path) -> str:
    """sha256 of a file. In the Hugging Face cache a large file is a link to one that is named by it."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name):
        return blob.name
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

"""Graphs on disk -> compiled for this CPU."""

from __future__ import annotations

from pathlib import Path

import openvino as ov
import torch

from canary_hub.errors import HubError
from canary_hub.stages import Build

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
"""Torch's names -> OpenVINO's. A CPU without bfloat16 computes in float32 from bfloat16 weights."""


def check(build: Build, name: str) -> None:
    """Raises: HubError for another device than the CPU, or a dtype that OpenVINO does not compute in there."""
    if torch.device(build.device).type != "cpu":
        raise HubError(
            f"{name} runs on the CPU, not on {build.device!r}.",
            f"Choose device cpu, or canary/{name.partition('/')[2].removesuffix('-int8')}.",
        )
    if build.dtype not in PRECISIONS:
        raise HubError(f"{name} computes in float32 or bfloat16, not in {build.dtype}.", "Choose one of them.")


def compiled(path: Path, dtype: str) -> ov.CompiledModel:
    """A graph compiled for the CPU, on as many threads as torch has.

    A cache of keys and values is kept in `dtype`; OpenVINO's own default for it is uint8.
    """
    core = ov.Core()
    precision = PRECISIONS[dtype]
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "KV_CACHE_PRECISION": precision,
        # int8 weights only: by default activations may be rounded, too, at more than twice the error.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    return core.compile_model(core.read_model(path), "CPU", config)

"""Opening a checkpoint in the Canary-Qwen layout, every tensor of it accounted for."""

from __future__ import annotations

from ...stages import Build
from ...weights.tensors import TensorFiles, check_names
from .layout import EMBEDDINGS, TIED_HEAD, checkpoint_shapes
from .plugin import BASE_LLM, CHECKPOINT


def open_checkpoint(build: Build) -> TensorFiles:
    """The checkpoint's tensors, after the whole file was compared with what its config describes.

    The embeddings may be absent (they are then read from the base LLM).
    Raises: WeightsError naming missing, unexpected and wrongly shaped tensors.
    """
    files = build.weights[CHECKPOINT].tensors()
    expected = checkpoint_shapes(build.weights[CHECKPOINT].config, build.weights[BASE_LLM].config)
    if EMBEDDINGS not in files:
        del expected[EMBEDDINGS]
    check_names(files, expected, unused=[TIED_HEAD])
    return files

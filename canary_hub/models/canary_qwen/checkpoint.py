"""Checkpoints in the Canary-Qwen layout: the published ones, the roles of their weights, and how one is opened.

Opening accounts for every tensor of the file.
"""

from __future__ import annotations

from pathlib import Path

from ...specs import Stage, WeightsRef
from ...stages import Build, Tensors
from ...weights.tensors import check_names
from .layout import EMBEDDINGS, TIED_HEAD, checkpoint_shapes

CHECKPOINT = "canary"
BASE_LLM = "canary-llm"
"""The roles of the weights: the checkpoint itself, and the base LLM's config and tokenizer."""

_CONFIGS = Path(__file__).parent / "published"

PUBLISHED = WeightsRef(
    repo="nvidia/canary-qwen-2.5b",
    revision="6cfc37ec7edc35a0545c403f551ecdfa28133d72",
    config=_CONFIGS / "config.json",
    gib=4.8,
)
PUBLISHED_LLM = WeightsRef(
    repo="Qwen/Qwen3-1.7B",
    revision="70d244cc86ccca08cf5af4e1e306ecf908b1ad5e",
    files=("tokenizer.json", "tokenizer_config.json"),
    config=_CONFIGS / "llm_config.json",
)

COMPONENTS = {
    Stage.PREPROCESSOR: "canary/log-mel",
    Stage.ENCODER: "canary/fastconformer",
    Stage.PROJECTOR: "canary/linear",
    Stage.PROMPT_TEMPLATE: "canary/chat-prompt",
    Stage.LLM: "canary/qwen3",
}
"""The components that a stack over such a checkpoint is made of."""


def open_checkpoint(build: Build) -> Tensors:
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

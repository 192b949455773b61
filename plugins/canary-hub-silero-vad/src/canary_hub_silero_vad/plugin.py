"""The segmenter `silero/vad`."""

from __future__ import annotations

from collections.abc import Iterable

from canary_hub.hookspecs import hookimpl
from canary_hub.specs import SegmenterSpec

CANARY_HUB_API = 2


@hookimpl
def canary_segmenters() -> Iterable[SegmenterSpec]:
    """Silero's voice activity detector; its package carries the model."""
    return [
        SegmenterSpec(
            id="silero/vad",
            title="Cuts in the longest pause that Silero's voice activity detector hears: for noisy recordings",
            factory="canary_hub_silero_vad.vad:build",
            requires=("silero_vad", "onnxruntime"),
            install='pip install "silero-vad[onnx-cpu]>=6.2.3"',
        )
    ]

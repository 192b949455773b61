"""Stack `nano`: a small checkpoint that ships with the package, in the published layout.

Same components and loading code as canary-qwen-2.5b; runs offline. See MODEL_CARD.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ...hookspecs import hookimpl
from ...specs import StackSpec, WeightsRef
from ..canary_qwen.checkpoint import BASE_LLM, CHECKPOINT, COMPONENTS

FOLDER = Path(__file__).parent


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """The embedded checkpoint."""
    return [
        StackSpec(
            name="nano",
            title="Nano",
            note="A 4 M-parameter model for trying the demo offline: clear, short English; for real work choose "
            "canary-qwen-2.5b.",
            components=COMPONENTS,
            weights={CHECKPOINT: WeightsRef(path=FOLDER), BASE_LLM: WeightsRef(path=FOLDER / "llm")},
            window_seconds=8.0,
            chat=False,
        )
    ]

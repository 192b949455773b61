"""A small fake for every stage, of nano's sizes: the stack `fake`, which any of them can be swapped out of.

Each module is a complete plugin of one file; `canary-hub new-plugin` starts from them.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...hookspecs import hookimpl
from ...specs import ComponentSpec, StackSpec, Stage
from . import encoder, llm, preprocessor, projector, prompt_template


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """One component per stage."""
    parts = (preprocessor, encoder, projector, prompt_template, llm)
    return [spec for part in parts for spec in part.canary_components()]


@hookimpl
def canary_stacks() -> Iterable[StackSpec]:
    """All five fakes."""
    components = {stage: f"fake/{stage.value}" for stage in Stage}
    return [StackSpec(name="fake", title="Fakes", note="Writes nonsense at once.", components=components, chat=False)]

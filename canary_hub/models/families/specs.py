"""The five `ComponentSpec`s of a family from what differs between families. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from ...specs import ComponentSpec, Options, Stage, WeightsRef
from ..causal_lm.options import GenerateCall

FUNCTIONS = {
    Stage.PREPROCESSOR: "log_mel",
    Stage.ENCODER: "encoder",
    Stage.PROJECTOR: "projector",
    Stage.PROMPT_TEMPLATE: "prompt",
    Stage.LLM: "llm",
}
"""What a family's modules `components` (factories) and `family` (contracts) call each stage's function."""


def five(
    package: str,
    ids: Mapping[Stage, str],
    titles: Mapping[Stage, str],
    weights: Mapping[str, WeightsRef],
    prompt_options: type[Options],
    llm_options: type[Options] = GenerateCall,
    requires: tuple[str, ...] = (),
    install: str = "",
) -> list[ComponentSpec]:
    """One component per stage, with its factory and contract function in `package`.

    requires, install: what the LLM's tokenizer needs beside canary_hub.
    """
    call_options = {Stage.PROMPT_TEMPLATE: prompt_options, Stage.LLM: llm_options}
    return [
        ComponentSpec(
            stage=stage,
            id=ids[stage],
            title=titles[stage],
            factory=f"{package}.components:{function}",
            contract=f"{package}.family:{function}",
            weights=weights,
            call_options=call_options.get(stage, Options),
            requires=requires if stage is Stage.LLM else (),
            install=install if stage is Stage.LLM else "",
        )
        for stage, function in FUNCTIONS.items()
    ]

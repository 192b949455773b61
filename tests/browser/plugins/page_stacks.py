"""Stacks for the tests of the page: a tiny checkpoint with random weights, and what can go wrong with it.

The titles hold HTML on purpose: it has to stay text. `test/endless` writes until it is stopped and tells
`STEPS` how far it came.
"""

import itertools
import time
from dataclasses import replace
from enum import Enum
from pathlib import Path

from pydantic import Field

from canary_hub.errors import HubError
from canary_hub.hookspecs import hookimpl
from canary_hub.models.canary_qwen import ports
from canary_hub.models.canary_qwen.checkpoint import COMPONENTS
from canary_hub.models.canary_qwen.options import ChatPromptCall
from canary_hub.specs import ComponentSpec, Contract, Options, Port, StackSpec, Stage, WeightsRef

SET_A = Path(__file__).parents[2] / "oracle" / "set_a"
WEIGHTS = {"canary": WeightsRef(path=SET_A / "checkpoint"), "canary-llm": WeightsRef(path=SET_A / "llm")}
STEPS: list[int] = []


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


class EveryKind(Options):
    """An option of every kind that the page can draw."""

    flag: bool = Field(True, description="A switch")
    colour: Colour = Colour.RED
    count: int = Field(3, ge=1, le=9)
    share: float = Field(0.5, ge=0.0, le=1.0)
    number: float = 1.5
    limit: int | None = None
    words: str = "<b>bold</b>"
    many: list[int] = Field(default_factory=lambda: [1, 2])


@hookimpl
def canary_components():
    here = __name__
    both = dict.fromkeys(("canary", "canary-llm"))
    return [
        ComponentSpec(Stage.ENCODER, "test/unfit", f"{here}:build_never", Contract((Port("features", dim=7),))),
        ComponentSpec(
            Stage.ENCODER,
            "test/foreign",
            "canary_hub.models.canary_qwen.encoder:build",
            f"{here}:foreign",
            weights=both,
        ),
        ComponentSpec(Stage.ENCODER, "test/broken", f"{here}:build_never", Contract((), (Port("hidden"),))),
        ComponentSpec(
            Stage.LLM,
            "test/endless",
            f"{here}:build_endless",
            "canary_hub.models.canary_qwen.ports:qwen3",
            weights=both,
            call_options=EveryKind,
        ),
        ComponentSpec(
            Stage.PROMPT_TEMPLATE,
            "test/prompt",
            "canary_hub.models.canary_qwen.prompts:build",
            "canary_hub.models.canary_qwen.ports:chat_prompt",
            weights={"canary": None},
            call_options=ChatPromptCall,
        ),
    ]


@hookimpl
def canary_stacks():
    parts = {**COMPONENTS, Stage.PROMPT_TEMPLATE: "test/prompt"}
    return [
        StackSpec("tiny", COMPONENTS, WEIGHTS, title="Tiny <b>one</b>", note="Writes <i>gibberish</i>."),
        StackSpec("endless", {**parts, Stage.LLM: "test/endless"}, WEIGHTS, title="Endless"),
    ]


def foreign(build):
    """The usual encoder's contract, with the tag of other weights: it fits, but was not trained with the rest."""
    contract = ports.fastconformer(build)
    hidden = [replace(port, tag="somebody <i>else</i>") for port in contract.produces]
    return replace(contract, produces=tuple(hidden))


def build_never(build):
    raise HubError("This encoder is <b>never</b> built.", "Choose another.")


class Endless:
    """The tiny Qwen3, except that it writes the same few words for ever."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def generate(self, inputs_embeds, attention_mask, options, stop=None):
        from canary_hub.stages import Step

        rows = len(inputs_embeds)
        STEPS.append(0)
        for i in itertools.count():
            time.sleep(0.02)
            STEPS[-1] = i + 1
            yield Step((40 + i * 7 % 50,) * rows, (-0.1,) * rows, inputs_embeds)


def build_endless(build):
    from canary_hub.models.canary_qwen import llm as qwen3

    return Endless(qwen3.build(build))

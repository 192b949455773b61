"""Component fake/prompt-template: a question and the audio, as one user message."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, Contract, Options, Port, Stage
from canary_hub.stages import AudioSlot, Build, Segment, Text

CANARY_HUB_API = 2  # the version of hooks and specs that this is written for


class QuestionCall(Options):
    """What is asked; may differ with every request."""

    question: str = Field("What is said?", max_length=1000, description="The words before the audio")


class QuestionPrompt:
    """ "{question}{audio}" as one user message."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `QuestionCall` options; what is typed is no control piece, whatever it spells."""
        assert isinstance(options, QuestionCall)
        return [
            Text("<|im_start|>", control=True),
            Text("user\n"),
            Text(options.question),
            AudioSlot(),
            Text("<|im_end|>", control=True),
            Text("\n"),
            Text("<|im_start|>", control=True),
            Text("assistant\n"),
        ]


def build(build: Build) -> QuestionPrompt:
    """Factory, called on first use."""
    return QuestionPrompt()


CONTRACT = Contract(produces=(Port("prompt", layout="qwen chat", token="<|audioplaceholder|>"),))


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """What this plugin adds."""
    return [
        ComponentSpec(
            stage=Stage.PROMPT_TEMPLATE,
            id="fake/prompt-template",
            title="A question and the audio, as one user message",
            factory=f"{__name__}:build",
            contract=CONTRACT,
            call_options=QuestionCall,
        )
    ]

"""Component granite-speech/speech-prompt: a system turn, and the audio with what is asked as the user's.

Source: the model card and chat template of ibm-granite/granite-speech-3.3-8b.
"""

from __future__ import annotations

from canary_hub.specs import Options
from canary_hub.stages import AudioSlot, Segment, Text

from .options import SpeechPromptCall


def turn(role: str, content: list[Segment]) -> list[Segment]:
    """A whole turn of a role."""
    return [*_start(role), *content, Text("<|end_of_text|>", control=True), Text("\n")]


def _start(role: str) -> list[Segment]:
    return [Text("<|start_of_role|>", control=True), Text(role), Text("<|end_of_role|>", control=True)]


def answer(turns: list[Segment]) -> list[Segment]:
    """The turns, and the start of the assistant's."""
    return [*turns, *_start("assistant")]


class SpeechPrompt:
    """ "{audio}{instruction}" as the user's turn."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `SpeechPromptCall` options."""
        assert isinstance(options, SpeechPromptCall)
        user = turn("user", [AudioSlot(), Text(options.instruction)])
        return answer([*turn("system", [Text(options.system)]), *user])

"""Component canary/chat-prompt: one user message around the audio, in Qwen's chat format.

Source: NeMo 2.7 `common/prompts/qwen.py`; no system message and no thinking block.
"""

from __future__ import annotations

from ...protocols import AudioSlot, Build, Segment, Text
from ...specs import Options
from .options import ChatPromptCall


def user_message(content: list[Segment]) -> list[Segment]:
    """A user turn with that content, and the start of the assistant's turn."""
    return [
        Text("<|im_start|>", control=True),
        Text("user\n"),
        *content,
        Text("<|im_end|>", control=True),
        Text("\n"),
        Text("<|im_start|>", control=True),
        Text("assistant\n"),
    ]


class ChatPrompt:
    """ "{before}{audio}{after}" as one user message."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `ChatPromptCall` options."""
        assert isinstance(options, ChatPromptCall)
        return user_message([Text(options.before), AudioSlot(), Text(options.after)])


def build(build: Build) -> ChatPrompt:
    """Factory."""
    return ChatPrompt()

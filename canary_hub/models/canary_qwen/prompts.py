"""The prompt templates: canary/chat-prompt and its variants, one user message around the audio in Qwen's chat format.

Source: NeMo 2.7 `common/prompts/qwen.py`; no system message unless one is typed, and no thinking block. What
is typed becomes a `Text` that is no control piece: it stays plain text, whatever it spells.
"""

from __future__ import annotations

from ...specs import Options
from ...stages import AudioSlot, Build, Segment, Text
from .options import DEFAULT_BEFORE, ChatPromptCall, ContextPromptCall, CustomPromptCall


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


class ChatPromptAudio:
    """ "Transcribe the following audio:{audio}" as one user message."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces; there are no options."""
        return user_message([Text("Transcribe the following audio:"), AudioSlot()])


class CustomPrompt:
    """A system message where one is given, and "{before}{audio}{after}" as the user's."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `CustomPromptCall` options."""
        assert isinstance(options, CustomPromptCall)
        system: list[Segment] = [
            Text("<|im_start|>", control=True),
            Text("system\n"),
            Text(options.system),
            Text("<|im_end|>", control=True),
            Text("\n"),
        ]
        user = user_message([Text(options.before), AudioSlot(), Text(options.after)])
        return [*system, *user] if options.system else user


class ContextPrompt:
    """The names and terms to expect, then the model card's wording and the audio."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `ContextPromptCall` options."""
        assert isinstance(options, ContextPromptCall)
        expected = ", ".join(options.listed)
        context = f"The audio may contain these names and terms: {expected}.\n" if expected else ""
        return user_message([Text(context), Text(DEFAULT_BEFORE), AudioSlot()])


def build(build: Build) -> ChatPrompt:
    """Factory of canary/chat-prompt."""
    return ChatPrompt()


def build_audio(build: Build) -> ChatPromptAudio:
    """Factory of canary/chat-prompt-audio."""
    return ChatPromptAudio()


def build_custom(build: Build) -> CustomPrompt:
    """Factory of canary/custom-prompt."""
    return CustomPrompt()


def build_context(build: Build) -> ContextPrompt:
    """Factory of canary/context-prompt."""
    return ContextPrompt()

"""Component glm-asr/transcribe-prompt: the audio as one user turn, what is asked as the next.

Source: the chat template of zai-org/GLM-ASR-Nano-2512, in transformers' `convert_glmasr_weights_to_hf.py`.
"""

from __future__ import annotations

from canary_hub.specs import Options
from canary_hub.stages import AudioSlot, Segment, Text

from .options import TranscribePromptCall


class TranscribePrompt:
    """Two user turns, without an end of turn, and the start of the assistant's."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `TranscribePromptCall` options."""
        assert isinstance(options, TranscribePromptCall)
        return [
            Text("<|user|>", control=True),
            Text("\n"),
            Text("<|begin_of_audio|>", control=True),
            AudioSlot(),
            Text("<|end_of_audio|>", control=True),
            Text("<|user|>", control=True),
            Text("\n"),
            Text(options.instruction),
            Text("<|assistant|>", control=True),
            Text("\n"),
        ]

"""Component audio-flamingo/sound-prompt: the audio, and then what is asked.

Source: the chat template of nvidia/audio-flamingo-3-hf and `apply_transcription_request` in transformers 5.23
`processing_audioflamingo3.py`.
"""

from __future__ import annotations

from canary_hub.specs import Options
from canary_hub.stages import AudioSlot, Segment, Text

from .options import SoundPromptCall


class SoundPrompt:
    """A system turn, and "{audio}{instruction}" as the user's."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `SoundPromptCall` options."""
        assert isinstance(options, SoundPromptCall)
        return [
            Text("<|im_start|>", control=True),
            Text("system\n"),
            Text(options.system),
            Text("<|im_end|>", control=True),
            Text("\n"),
            Text("<|im_start|>", control=True),
            Text("user\n"),
            AudioSlot(),
            Text(options.instruction),
            Text("<|im_end|>", control=True),
            Text("\n"),
            Text("<|im_start|>", control=True),
            Text("assistant\n"),
        ]

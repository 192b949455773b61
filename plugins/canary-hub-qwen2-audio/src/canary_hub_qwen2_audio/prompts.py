"""Component qwen2-audio/audio-prompt: the audio, numbered, and then what is asked.

Source: the chat template in transformers 5.23 `processing_qwen2_audio.py`.
"""

from __future__ import annotations

from canary_hub.specs import Options
from canary_hub.stages import AudioSlot, Segment, Text

from .options import AudioPromptCall


class AudioPrompt:
    """A system turn, and "Audio 1: {audio}" with the instruction on the next line as the user's."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt's pieces for `AudioPromptCall` options."""
        assert isinstance(options, AudioPromptCall)
        return [
            Text("<|im_start|>", control=True),
            Text("system\n"),
            Text(options.system),
            Text("<|im_end|>", control=True),
            Text("\n"),
            Text("<|im_start|>", control=True),
            Text("user\nAudio 1: "),
            Text("<|audio_bos|>", control=True),
            AudioSlot(),
            Text("<|audio_eos|>", control=True),
            Text("\n"),
            Text(options.instruction),
            Text("<|im_end|>", control=True),
            Text("\n"),
            Text("<|im_start|>", control=True),
            Text("assistant\n"),
        ]

"""The components of Audio Flamingo 3: a prompt template and an LLM backend of its own, and the factories.

The prompt: the audio, and then what is asked.
Source: the chat template of nvidia/audio-flamingo-3-hf and `apply_transcription_request` in transformers 5.23
`processing_audioflamingo3.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from canary_hub.models.causal_lm.backend import CausalLMBackend
from canary_hub.models.families.backend import FamilyTokenizer, load_llm
from canary_hub.models.families.projector import FrameProjector, build_projector
from canary_hub.models.families.whisper import WhisperEncoder, WhisperLogMel, build_encoder, build_log_mel
from canary_hub.specs import Options
from canary_hub.stages import AudioSlot, Build, Segment, Text

from .plugin import FAMILY, SoundPromptCall

FRAMED = re.compile(
    r"\s*(?:The spoken content of the audio is|The transcription of the audio is|The content of the input audio is)"
    r"\s*(?P<quote>['\"]?)(?P<text>.*?)(?:(?P=quote)\.?)?\s*$",
    re.DOTALL,
)
"""How the model was trained to answer with a transcript. Source: transformers 5.23 `processing_audioflamingo3.py`."""


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


class AudioFlamingoBackend(CausalLMBackend):
    """Writes 'The spoken content of the audio is "..."." when asked for a transcript."""

    def decode(self, ids: Sequence[int]) -> str:
        """New ids -> text; of a framed transcript what stands between the quotation marks."""
        text = super().decode(ids)
        return text[transcript(text)]

    def left_out(self, ids: Sequence[int]) -> int:
        """The tokens in front of the transcript."""
        plain = super().decode
        start = transcript(plain(ids)).start
        return next(n for n in range(len(ids) + 1) if len(plain(ids[:n])) >= start)


def transcript(text: str) -> slice:
    """Where the transcript stands in a framed answer, also in one that is still being written; of another answer
    all of it."""
    match = FRAMED.match(text)
    return slice(*match.span("text")) if match else slice(0, len(text))


def log_mel(build: Build) -> WhisperLogMel:
    """Whisper's front end, each window of 30 s alone."""
    return build_log_mel(build, FAMILY)


def encoder(build: Build) -> WhisperEncoder:
    """Whisper's encoder with averaged pairs of frames, the padding masked."""
    return build_encoder(build, FAMILY, pooled=True, masked=True)


def projector(build: Build) -> FrameProjector:
    """Two linear layers."""
    return build_projector(build, FAMILY)


def prompt(build: Build) -> SoundPrompt:
    """The prompt template."""
    return SoundPrompt()


def llm(build: Build) -> AudioFlamingoBackend:
    """The Qwen2.5 (7B) inside Audio Flamingo 3."""
    return AudioFlamingoBackend(load_llm(build, FAMILY), FamilyTokenizer(build.weights[FAMILY.role], FAMILY))

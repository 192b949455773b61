"""Component audio-flamingo/qwen2: the Qwen2.5 inside Audio Flamingo 3, its transcripts without their frame."""

from __future__ import annotations

import re
from collections.abc import Sequence

from canary_hub.models.causal_lm.backend import CausalLMBackend

FRAMED = re.compile(
    r"\s*(?:The spoken content of the audio is|The transcription of the audio is|The content of the input audio is)"
    r"\s*(?P<quote>['\"]?)(?P<text>.*?)(?:(?P=quote)\.?)?\s*$",
    re.DOTALL,
)
"""How the model was trained to answer with a transcript. Source: transformers 5.23 `processing_audioflamingo3.py`."""


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

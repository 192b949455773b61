"""canary_hub: try, take apart and compare speech-LLMs of the Canary-Qwen kind.

>>> import canary_hub
>>> stack = canary_hub.Hub().load("nano")
>>> stack.transcribe("speech.wav").text

Importing this package loads neither torch nor transformers nor gradio.
"""

from __future__ import annotations

from .errors import HubError
from .events import Answer, Done, Event, SegmentDone, StageDone, Token
from .hub import Hub
from .injection import inject_audio_embeddings
from .pipeline import Stack
from .trace import Result, SegmentResult

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Done",
    "Event",
    "Hub",
    "HubError",
    "Result",
    "SegmentDone",
    "SegmentResult",
    "Stack",
    "StageDone",
    "Token",
    "__version__",
    "inject_audio_embeddings",
]

"""canary_hub: try, take apart and compare speech-LLMs of the Canary-Qwen kind.

>>> import canary_hub
>>> stack = canary_hub.Hub().load("nano")
>>> stack.transcribe("speech.wav").text

Importing this package loads neither torch nor transformers nor gradio.
"""

from __future__ import annotations

from .errors import HubError
from .hub import Hub
from .pipeline import Stack
from .run.events import Answer, Done, Event, SegmentDone, StageDone, Token
from .run.injection import inject_audio_embeddings
from .run.result import Result, SegmentResult
from .version import __version__

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

"""The factories of the Qwen3-ASR components, by stage."""

from .encoder import build as encoder
from .log_mel import build as log_mel
from .projector import build as projector
from .prompts import build as prompt
from .qwen3 import build as llm

__all__ = ["encoder", "llm", "log_mel", "projector", "prompt"]

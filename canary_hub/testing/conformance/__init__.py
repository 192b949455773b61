"""What every component has to keep: a test class for each stage, to subclass."""

from .audio import EncoderConformance, PreprocessorConformance, ProjectorConformance
from .text import LLMConformance, PromptTemplateConformance

__all__ = [
    "EncoderConformance",
    "LLMConformance",
    "PreprocessorConformance",
    "ProjectorConformance",
    "PromptTemplateConformance",
]

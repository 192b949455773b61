"""Stacks over a test set: transcripts that survive an interruption, error rates, intervals, comparisons."""

from .manifest import open_manifest
from .report import EvalReport
from .run import Progress, evaluate

__all__ = ["EvalReport", "Progress", "evaluate", "open_manifest"]

"""Stacks over a test set: transcripts that survive an interruption, error rates, intervals, comparisons."""

from .evaluate import Progress, evaluate
from .manifest import open_manifest
from .report import Report

__all__ = ["Progress", "Report", "evaluate", "open_manifest"]

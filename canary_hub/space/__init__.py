"""Hugging Face Spaces: stage the folder of one, and push it."""

from __future__ import annotations

from .pushing import push
from .staging import Staged, stage

__all__ = ["Staged", "push", "stage"]

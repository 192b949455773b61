"""No projection: Whisper's decoder reads the encoder's vectors as they are."""

from __future__ import annotations

import torch

from ...stages import Build


class Identity:
    """(B, N, D) -> the same.

    frame_seconds: what a vector covers; the silence behind a clip has some, too.
    """

    nbytes = 0
    frame_seconds = 0.02

    def __call__(self, hidden: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, N, D), (B,) -> embeds (B, N, D), lengths (B,)."""
        return hidden, lengths


def build(build: Build) -> Identity:
    """Factory of whisper/identity."""
    return Identity()

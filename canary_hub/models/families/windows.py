"""Long audio as windows of a fixed length, folded into the batch, and put together again."""

from __future__ import annotations

from dataclasses import dataclass

import torch

FRAMES = 3000
"""Feature frames in one window: 30 s, what a Whisper encoder hears at a time."""


@dataclass(frozen=True)
class Windows:
    """All windows of a batch that hold any audio.

    features: (W, F, FRAMES).
    lengths: (W,) feature frames that are no padding; all but a row's last window are full.
    counts: (B,) windows of each row.
    """

    features: torch.Tensor
    lengths: torch.Tensor
    counts: torch.Tensor

    def join(self, hidden: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(W, N, D) and (W,) valid vectors of each window -> (B, M, D), lengths (B,): a row's windows one after
        the other, without what each has of padding."""
        pieces = [window[:n] for window, n in zip(hidden, lengths.tolist(), strict=True)]
        rows, at = [], 0
        for count in self.counts.tolist():
            rows.append(torch.cat(pieces[at : at + count]) if count else hidden.new_zeros(0, hidden.shape[-1]))
            at += count
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def fold(features: torch.Tensor, lengths: torch.Tensor) -> Windows:
    """(B, F, T), (B,) -> the windows of each row, the last one as it was padded by the front end (with zeros where
    the front end did not pad to whole windows)."""
    counts = (lengths + FRAMES - 1) // FRAMES
    short = int(counts.max()) * FRAMES - features.shape[-1] if len(counts) else 0
    padded = torch.nn.functional.pad(features, (0, max(0, short)))
    windows, sizes = [], []
    for row, length, count in zip(padded, lengths.tolist(), counts.tolist(), strict=True):
        for i in range(count):
            windows.append(row[:, i * FRAMES : (i + 1) * FRAMES])
            sizes.append(min(FRAMES, length - i * FRAMES))
    stacked = torch.stack(windows) if windows else features.new_zeros(0, features.shape[1], FRAMES)
    return Windows(stacked, torch.tensor(sizes, dtype=torch.long), counts)

"""The projector's last linear in closed form: from its features to the embedding that CTC expects.

Ridge regression over a few thousand frames. The LLM, which has learnt to copy embeddings of tokens, hears from its
first step with speech.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from .batches import Batch
from .model import Mini


@torch.no_grad()
def solve(model: Mini, batches: Iterator[Batch], frames: int = 40_000, ridge: float = 1e-2) -> float:
    """Sets `model.proj.outer`; returns R2, the share of the expected embeddings' variance that is met.

    Blank frames are half the weight: there are many, and they are all alike.
    """
    features, wanted, weights = [], [], []
    count = 0
    for batch in batches:
        inner = model.proj.features(batch.audio.float())
        posterior = model.ctc_logits(model.proj.outer(inner)).softmax(-1)
        real = torch.arange(inner.shape[1])[None] < batch.lengths[:, None]
        features.append(inner[real])
        wanted.append(posterior[real] @ model.table)
        weights.append(1 - 0.5 * posterior[real][:, model.blank])
        count += int(real.sum())
        if count >= frames:
            break
    x, y, w = (torch.cat(part).double() for part in (features, wanted, weights))
    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    weighted = x * w[:, None]
    gram = weighted.T @ x
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=x.dtype)
    solution = torch.linalg.solve(gram, weighted.T @ y)
    rest = (w[:, None] * (y - x @ solution) ** 2).sum()
    mean = (w[:, None] * y).sum(0) / w.sum()
    spread = (w[:, None] * (y - mean) ** 2).sum()
    model.proj.outer.weight.copy_(solution[:-1].T)
    model.proj.outer.bias.copy_(solution[-1])
    return float(1 - rest / spread)

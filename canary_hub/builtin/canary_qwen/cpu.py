"""Which kernels a forward pass takes on the CPU: in bfloat16, a single row is another matter than many.

A decoding step consists of reading the weights once. PyTorch hands bfloat16 products to oneDNN, whose
matrix-vector product reached 16 GB/s of the 29 that two Zen 4 cores can read; PyTorch's own reached 28.
For many rows oneDNN is ten times faster than PyTorch's own. The switch between them is one for the
whole process, hence a lock: passes run one at a time, which on a CPU costs nothing, since each of them
takes every core.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def forward_pass(x: torch.Tensor) -> Iterator[None]:
    """Around a forward pass over `x` (..., features); never yield to a caller inside of it."""
    if x.device.type != "cpu":
        yield
        return
    single = x.dtype == torch.bfloat16 and x.numel() == x.shape[-1]
    mkldnn = torch.backends.mkldnn
    with _ONE_AT_A_TIME:
        before = mkldnn.enabled
        mkldnn.enabled = before and not single
        try:
            yield
        finally:
            mkldnn.enabled = before


class RowLinear(torch.nn.Linear):
    """A Linear that takes `torch.mv` for a single row: a tenth faster than F.linear without oneDNN,
    and with it too on CPUs with AMX."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        if x.numel() == self.in_features and self.bias is None:
            return torch.mv(self.weight, x.reshape(-1)).view(*x.shape[:-1], -1)
        return super().forward(x)


def speed_up_single_rows(module: torch.nn.Module) -> None:
    """Turn the bias-free linears of a bfloat16 CPU module into `RowLinear`, in place."""
    for linear in module.modules():
        if type(linear) is torch.nn.Linear and linear.weight.dtype == torch.bfloat16:
            linear.__class__ = RowLinear

"""Component canary/qwen3-int8: canary/qwen3, with int8 weights for single rows on the CPU.

A decoding step reads all weights once, and int8 halves what it reads: at full size 127 ms a token instead
of 141 on the cores of `cpu`, where PyTorch's int8 kernel takes in 20 GB/s; more where bfloat16 is limited
by memory alone. A prompt and a batch are bound by arithmetic, at which that kernel is several times slower
than bfloat16: they keep the weights of canary/qwen3. So the int8 weights are a second copy, 1.6 GiB.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...errors import HubError
from ...stages import Build
from ..cpu import RowLinear
from . import llm as qwen3

KERNEL_BLOCK = 16
ALIGNMENT = 32
"""PyTorch's AVX-512 kernel (aten/src/ATen/native/cpu/int8mm_kernel.cpp, tinygemm_kernel) checks neither: it
reads 16 values at a time, past the end of a row that is no multiple, and crashes where these 32 bytes of
bfloat16 do not start at a multiple of 32."""
CHUNK_ROWS = 256  # quantised at a time, so that the float32 copy stays in the cache


@dataclass(frozen=True)
class Int8Weight:
    """A weight rounded to int8, symmetric, with one scale per output channel.

    source: (out, in) the weight that was rounded. values: (out, in) int8. scales: (out,) bfloat16;
    source is about values * scales[:, None].
    """

    source: torch.Tensor
    values: torch.Tensor
    scales: torch.Tensor

    @classmethod
    @torch.inference_mode()
    def of(cls, source: torch.Tensor) -> Int8Weight:
        """Round `source`, (out, in) of any floating dtype."""
        values = torch.empty(source.shape, dtype=torch.int8)
        scales = torch.empty(len(source), dtype=torch.bfloat16)
        for start in range(0, len(source), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            chunk = source[rows].to(torch.float32, copy=True)
            largest = chunk.abs().amax(dim=1)
            # The kernel wants bfloat16 scales. Dividing by the rounded scale keeps its rounding error out
            # of the product; the quotient stays below 127.5, since bfloat16 is exact to one part in 512.
            scales[rows] = (largest / 127).clamp(min=torch.finfo(torch.bfloat16).tiny)
            values[rows] = chunk.div_(scales[rows, None].float()).round_()
        return cls(source, values, scales)

    @property
    def nbytes(self) -> int:
        """Bytes beside the source."""
        return self.values.nbytes + self.scales.nbytes

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """(1, in) -> (1, out) in the dtype of x, multiplied in bfloat16 and summed in float32.

        The kernel has no vector code for float32 on x86.
        """
        row = x.bfloat16().contiguous()
        if row.data_ptr() % ALIGNMENT:
            row = row.clone()
        return torch._weight_int8pack_mm(row, self.values, self.scales).to(x.dtype)


class Int8RowLinear(RowLinear):
    """A Linear that multiplies a single row by the int8 copy of its weight.

    While another weight than the copied one is in place (q and v with the adapter off), it does
    what `RowLinear` does.
    """

    int8: Int8Weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out), inside `forward_pass`."""
        if x.numel() != self.in_features or self.weight is not self.int8.source:
            return super().forward(x)
        return self.int8.product(x.reshape(1, -1)).view(*x.shape[:-1], -1)


def add_int8_rows(module: torch.nn.Module) -> int:
    """Turn the bias-free linears of a CPU module into `Int8RowLinear`, in place -> bytes added.

    A linear whose input size the kernel cannot read stays as it is.
    """
    added = 0
    for linear in module.modules():
        if isinstance(linear, torch.nn.Linear) and linear.bias is None and linear.in_features % KERNEL_BLOCK == 0:
            int8 = Int8Weight.of(linear.weight)
            linear.__class__ = Int8RowLinear
            linear.int8 = int8
            added += int8.nbytes
    return added


def build(build: Build) -> qwen3.Qwen3Backend:
    """Factory: canary/qwen3 with the merged weights and the head rounded a second time, to int8.

    Raises: HubError on another device than the CPU.
    """
    if build.device != "cpu":
        raise HubError(
            f"canary/qwen3-int8 runs on the CPU, not on {build.device!r}.",
            "Choose device cpu, or the LLM backend canary/qwen3.",
        )
    backend = qwen3.build(build)
    backend.nbytes += add_int8_rows(backend.model)
    return backend

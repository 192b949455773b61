"""Component canary/qwen3-int8: canary/qwen3, with int8 weights for single rows on the CPU.

A decoding step reads all weights once, and int8 halves what it reads. A prompt and a batch are bound by arithmetic:
they keep the weights of canary/qwen3. So the int8 weights are a second copy, 1.6 GiB at full size.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod

import torch

from ...cpu import RowLinear
from ...errors import HubError
from ...protocols import Build
from . import qwen3

CHUNK_ROWS = 256  # quantised at a time, so that the float32 copy stays in the cache


@torch.inference_mode()
def rounded(source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight (out, in) rounded to int8, symmetric, with one scale per output channel.

    -> values (out, in) int8, scales (out,) bfloat16; source is about values * scales[:, None].
    """
    values = torch.empty(source.shape, dtype=torch.int8)
    scales = torch.empty(len(source), dtype=torch.bfloat16)
    for start in range(0, len(source), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        chunk = source[rows].to(torch.float32, copy=True)
        largest = chunk.abs().amax(dim=1)
        # One of the kernels wants bfloat16 scales. Dividing by the rounded scale keeps its rounding error out
        # of the product; the quotient stays below 127.5, since bfloat16 is exact to one part in 512.
        scales[rows] = (largest / 127).clamp(min=torch.finfo(torch.bfloat16).tiny)
        values[rows] = chunk.div_(scales[rows, None].float()).round_()
    return values, scales


class Int8Weight(ABC):
    """A rounded weight as one of PyTorch's kernels takes it.

    source: (out, in) the weight that was rounded. nbytes: bytes beside it.
    """

    source: torch.Tensor
    nbytes: int

    @staticmethod
    def readable(linear: torch.nn.Linear) -> bool:
        """Whether the kernel takes a weight of this shape."""
        return True

    @abstractmethod
    def product(self, x: torch.Tensor) -> torch.Tensor:
        """(1, in) -> (1, out) in the dtype of x."""


class FbgemmInt8(Int8Weight):
    """FBGEMM's kernel for x86. It multiplies int8 by int8, which would round x to 7 bits of its largest value, too few
    for an LLM, where single values are hundreds of times the others. So x is written with two digits of 7 bits: two
    rows, which cost what one does, since the weight is read once."""

    LARGEST = 63.0  # of a digit: with 7 bits no CPU's 16-bit sums overflow (`reduce_range`)

    def __init__(self, source: torch.Tensor) -> None:
        values, scales = rounded(source)
        self.source = source
        self.nbytes = values.nbytes + scales.nbytes
        # Two columns of zeros meet +-63.5 in x: with them the kernel, which looks for the range of x, finds steps of 1.
        values = torch.nn.functional.pad(values, (0, 2))
        self._digits = torch.zeros(2, values.shape[1])
        self._digits[0, -2:] = torch.tensor([self.LARGEST + 0.5, -self.LARGEST - 0.5])
        engine = torch.backends.quantized.engine
        torch.backends.quantized.engine = "fbgemm"
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)  # to go after PyTorch 2.13
                tensor = torch._make_per_channel_quantized_tensor(
                    values, scales.double(), torch.zeros(len(scales), dtype=torch.long), 0
                )
                self._packed = torch.ops.quantized.linear_prepack(tensor, None)
        finally:
            torch.backends.quantized.engine = engine

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """(1, in) -> (1, out) in the dtype of x, to 14 bits of the largest value of x. Not thread-safe."""
        row = x.float()
        step = row.abs().max().clamp(min=torch.finfo(torch.float32).tiny) / self.LARGEST
        row = row / step
        high = self._digits[:1, :-2].copy_(row).round_()
        torch.sub(row, high, out=self._digits[1:, :-2]).mul_(2 * self.LARGEST).round_()
        products = torch.ops.quantized.linear_dynamic(self._digits, self._packed, True)
        return torch.add(products[:1], products[1:], alpha=0.5 / self.LARGEST).mul_(step).to(x.dtype)


class WeightOnlyInt8(Int8Weight):
    """PyTorch's own kernel for every CPU, which multiplies in bfloat16 and sums in float32."""

    KERNEL_BLOCK = 16
    ALIGNMENT = 32
    """The AVX-512 kernel (aten/src/ATen/native/cpu/int8mm_kernel.cpp, tinygemm_kernel) checks neither: it reads 16
    values at a time, past the end of a row that is no multiple, and crashes where these 32 bytes of bfloat16 do not
    start at a multiple of 32."""

    def __init__(self, source: torch.Tensor) -> None:
        self.source = source
        self.values, self.scales = rounded(source)
        self.nbytes = self.values.nbytes + self.scales.nbytes

    @staticmethod
    def readable(linear: torch.nn.Linear) -> bool:
        """Whether the kernel takes a weight of this shape."""
        return linear.in_features % WeightOnlyInt8.KERNEL_BLOCK == 0

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """(1, in) -> (1, out) in the dtype of x, multiplied in bfloat16 and summed in float32."""
        row = x.bfloat16().contiguous()
        if row.data_ptr() % self.ALIGNMENT:
            row = row.clone()
        return torch._weight_int8pack_mm(row, self.values, self.scales).to(x.dtype)


KERNEL: type[FbgemmInt8 | WeightOnlyInt8] = (
    FbgemmInt8 if "fbgemm" in torch.backends.quantized.supported_engines else WeightOnlyInt8
)
"""FBGEMM's is more than twice as fast where there is it: on x86."""


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


def add_int8_rows(module: torch.nn.Module, kernel: type[FbgemmInt8 | WeightOnlyInt8] = KERNEL) -> int:
    """Turn the bias-free linears of a CPU module into `Int8RowLinear`, in place -> bytes added.

    A linear whose weight the kernel cannot read stays as it is.
    """
    added = 0
    for linear in module.modules():
        if isinstance(linear, torch.nn.Linear) and linear.bias is None and kernel.readable(linear):
            int8 = kernel(linear.weight)
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

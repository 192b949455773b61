"""Component openvino/fastconformer: the encoder of canary/fastconformer through OpenVINO."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace

import openvino as ov
import torch
from transformers import ParakeetEncoder
from transformers.models.parakeet.modeling_parakeet import ParakeetEncoderRelPositionalEncoding

from canary_hub.models.canary_qwen import encoder as built_in
from canary_hub.models.canary_qwen.checkpoint import CHECKPOINT, open_checkpoint
from canary_hub.models.canary_qwen.layout import ENCODER_PREFIX
from canary_hub.models.cpu import forward_pass
from canary_hub.stages import Build

from . import graph
from .compiled import check, compiled
from .exported import exported, nbytes

_BUFFER = re.compile(r"running_(mean|var)|num_batches_tracked")


class Traced(torch.nn.Module):
    """ParakeetEncoder.forward from its inputs on, with masks and positions made outside: in bfloat16 the graph
    would round the counting in them."""

    def __init__(self, encoder: ParakeetEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, features: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, attention: torch.Tensor
    ) -> torch.Tensor:
        """features (B, T, n_mels), mask (B, T), positions (1, 2 N - 1, D), attention (B, 1, N, N) -> (B, N, D)."""
        hidden: torch.Tensor = self.encoder.subsampling(features, mask) * self.encoder.input_scale
        positions = positions.expand(features.shape[0], -1, -1)
        for layer in self.encoder.layers:
            hidden = layer(hidden, attention_mask=attention, position_embeddings=positions)
        return hidden


class FastConformer:
    """(B, n_mels, T) log-mel -> (B, N, d_model) float32, N = ceil(T / subsampling_factor)."""

    def __init__(
        self,
        encoder: ov.CompiledModel,
        positions: ParakeetEncoderRelPositionalEncoding,
        factor: int,
        nbytes: int,
        parameters: int,
    ) -> None:
        self.nbytes = nbytes + positions.inv_freq.nbytes
        self.parameters = parameters
        self._request = encoder.create_infer_request()
        self._positions = positions
        self._factor = factor

    @torch.inference_mode()
    def __call__(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, n_mels, T), (B,) -> hidden (B, N, d_model), lengths (B,)."""
        x = features.float().transpose(1, 2)
        # Convolutions of stride 2 with a frame of padding on both sides: each halves the length, rounded up.
        hidden_lengths = (lengths + self._factor - 1) // self._factor
        count = -(-x.shape[1] // self._factor)
        heard = torch.arange(count) < hidden_lengths[:, None]
        inputs = {
            "features": x.contiguous().numpy(),
            "mask": (torch.arange(x.shape[1]) < lengths[:, None]).numpy(),
            "positions": self._positions(torch.empty(1, count, 0)).numpy(),
            "attention": (heard[:, None, :, None] & heard[:, None, None, :]).numpy(),
        }
        with forward_pass():
            return torch.from_numpy(self._request.infer(inputs)["hidden"]), hidden_lengths


def build(build: Build) -> FastConformer:
    """Factory. Raises: HubError off the CPU, WeightsError."""
    check(build, "openvino/fastconformer")
    files = open_checkpoint(build)
    config = built_in.encoder_config(build.weights[CHECKPOINT].config)

    def export() -> Mapping[str, ov.Model]:
        encoder = trace(built_in.build(replace(build, dtype="float32")).module)
        if build.dtype == "bfloat16":
            graph.narrow(encoder)
        return {"encoder": encoder}

    paths = exported(f"fastconformer-{build.dtype}", [build.weights[CHECKPOINT]], ("torch", "transformers"), export)
    encoder = FastConformer(
        compiled(paths["encoder"], build.dtype),
        ParakeetEncoderRelPositionalEncoding(config),
        config.subsampling_factor,
        nbytes(paths.values()),
        sum(math.prod(files[name]) for name in files if name.startswith(ENCODER_PREFIX) and not _BUFFER.search(name)),
    )
    # OpenVINO brings the weights into its own layout at the first call, for seconds.
    encoder(torch.zeros(1, config.num_mel_bins, config.subsampling_factor), torch.tensor([config.subsampling_factor]))
    return encoder


def trace(encoder: ParakeetEncoder) -> ov.Model:
    """`Traced` as a graph, for any batch and length."""
    n_mels, d_model = encoder.config.num_mel_bins, encoder.config.hidden_size
    frames = 5 * encoder.config.subsampling_factor
    example = {
        "features": torch.zeros(2, frames, n_mels),
        "mask": torch.ones(2, frames, dtype=torch.bool),
        "positions": torch.zeros(1, 9, d_model),
        "attention": torch.ones(2, 1, 5, 5, dtype=torch.bool),
    }
    with warnings.catch_warnings():  # of branches that no input changes
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        model = ov.convert_model(Traced(encoder).eval(), example_input=example)
    model.output(0).set_names({"hidden"})
    return model

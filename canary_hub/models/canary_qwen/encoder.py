"""Component canary/fastconformer: transformers' ParakeetEncoder with NeMo's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import ParakeetEncoder, ParakeetEncoderConfig

from ...errors import WeightsError
from ...stages import Build
from ...weights.tensors import assign, module_bytes, parameter_count
from ..cpu import forward_pass
from .checkpoint import CHECKPOINT, open_checkpoint
from .layout import encoder_name, get, size

# Variants of NeMo's ConformerEncoder that transformers' module does not compute.
_ONLY = {
    "self_attention_model": "rel_pos",
    "subsampling": "dw_striding",
    "conv_norm_type": "batch_norm",
    "causal_downsampling": False,
    "conv_context_size": None,
    "reduction": None,
    "untie_biases": True,
    "att_context_size": [-1, -1],
}


class FastConformer:
    """(B, n_mels, T) log-mel -> (B, N, d_model), N = ceil(T / subsampling_factor) or one more."""

    def __init__(self, module: ParakeetEncoder) -> None:
        self.module = module
        weight = module.subsampling.linear.weight
        self.dtype, self.device = weight.dtype, weight.device
        self.nbytes = module_bytes(module)
        self.parameters = parameter_count(module)

    @torch.inference_mode()
    def __call__(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, n_mels, T), (B,) -> hidden (B, N, d_model), lengths (B,).

        At a multiple of the subsampling factor N is one larger than the longest length.
        """
        x = features.to(self.device, self.dtype).transpose(1, 2)
        mask = torch.arange(x.shape[1], device=self.device) < lengths.to(self.device)[:, None]
        with forward_pass():
            out = self.module(x, attention_mask=mask)
        return out.last_hidden_state, out.attention_mask.sum(-1)


def encoder_config(config: Mapping[str, Any]) -> ParakeetEncoderConfig:
    """NeMo's encoder section -> transformers' config.

    Raises: WeightsError for a variant that ParakeetEncoder does not compute.
    """
    encoder = get(config, "perception.encoder")
    for key, value in _ONLY.items():
        if encoder.get(key, value) != value:
            raise WeightsError(
                f"config.json asks for encoder.{key} = {encoder[key]!r}; canary/fastconformer computes {value!r} only.",
                "Choose another encoder component for this checkpoint.",
            )
    d_model = size(encoder, "d_model")
    return ParakeetEncoderConfig(
        hidden_size=d_model,
        num_hidden_layers=size(encoder, "n_layers"),
        num_attention_heads=size(encoder, "n_heads"),
        intermediate_size=d_model * size(encoder, "ff_expansion_factor"),
        conv_kernel_size=size(encoder, "conv_kernel_size"),
        subsampling_factor=size(encoder, "subsampling_factor"),
        subsampling_conv_channels=size(encoder, "subsampling_conv_channels"),
        num_mel_bins=size(encoder, "feat_in"),
        max_position_embeddings=size({"pos_emb_max_len": 5000, **encoder}, "pos_emb_max_len"),
        scale_input=bool(encoder.get("xscaling", True)),
        attention_bias=True,
        convolution_bias=True,
    )


def build(build: Build) -> FastConformer:
    """Factory: on the meta device, then filled from the mapped file."""
    files = open_checkpoint(build)
    config = encoder_config(build.weights[CHECKPOINT].config)
    with torch.device("meta"):
        module = ParakeetEncoder(config)
    positions = module.encode_positions
    positions.inv_freq = positions.compute_default_relative_positional_parameters(config).to(build.device)
    assign(module, lambda name: files.tensor(encoder_name(name)), getattr(torch, build.dtype), build.device)
    return FastConformer(module)

"""The nano: transformers' FastConformer, a linear projector and a small Qwen3 with LoRA by PEFT.

Beside them stand throwaway heads for CTC. They shape the encoder and are not exported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .features import N_MELS, LogMel
from .phones import PHONES
from .tokenizer import Coder

CHARS = " abcdefghijklmnopqrstuvwxyz'"
SUB_FRAMES = 3
"""Character CTC needs finer frames than the encoder's 80 ms: the head splits each in three."""
IGNORE = -100


@dataclass(frozen=True)
class Sizes:
    """Every dimension of the model; the defaults are the shipped nano (3.8 M parameters)."""

    d_model: int = 144
    layers: int = 6
    heads: int = 4
    kernel: int = 9
    channels: int = 16
    hidden: int = 128
    llm_layers: int = 3
    llm_heads: int = 4
    llm_kv_heads: int = 2
    llm_inner: int = 384
    vocabulary: int = 512
    lora_r: int = 32
    lora_alpha: int = 32

    def llm_config(self, coder: Coder | None = None) -> dict[str, Any]:
        """Qwen3's config.json."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": coder.pad if coder else None,
            "eos_token_id": coder.end if coder else None,
            "head_dim": self.hidden // self.llm_heads,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": 0.05,
            "intermediate_size": self.llm_inner,
            "max_position_embeddings": 40960,
            "max_window_layers": self.llm_layers,
            "model_type": "qwen3",
            "num_attention_heads": self.llm_heads,
            "num_hidden_layers": self.llm_layers,
            "num_key_value_heads": self.llm_kv_heads,
            "rms_norm_eps": 1e-6,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "sliding_window": None,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": self.vocabulary,
        }


def build_encoder(sizes: Sizes) -> nn.Module:
    """An initialised FastConformer: (B, T, n_mels), mask (B, T) -> (B, N, d_model), mask (B, N)."""
    from transformers import ParakeetEncoder, ParakeetEncoderConfig

    config = ParakeetEncoderConfig(
        hidden_size=sizes.d_model,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.d_model * 4,
        conv_kernel_size=sizes.kernel,
        subsampling_factor=8,
        subsampling_conv_channels=sizes.channels,
        num_mel_bins=N_MELS,
        scale_input=False,
        attention_bias=True,
        convolution_bias=True,
        dropout=0.0,
        layerdrop=0.0,
        activation_dropout=0.0,
        attention_dropout=0.0,
    )
    encoder: nn.Module = ParakeetEncoder(config)
    # transformers initialises with std 0.02: through a subsampling without norms the signal vanishes.
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear | nn.Conv1d):
            module.reset_parameters()
    encoder.subsampling.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload,union-attr]  # faster on a CPU
    return encoder


def build_llm(sizes: Sizes) -> nn.Module:
    """Qwen3ForCausalLM under PEFT's LoRA, whose B starts at zero; every parameter trains."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen3Config, Qwen3ForCausalLM

    settings = {k: v for k, v in sizes.llm_config().items() if k not in ("architectures", "torch_dtype", "model_type")}
    llm = Qwen3ForCausalLM(Qwen3Config(**settings))
    lora = LoraConfig(
        r=sizes.lora_r,
        lora_alpha=sizes.lora_alpha,
        target_modules=["q_proj", "v_proj"],
        task_type="CAUSAL_LM",
    )
    peft: nn.Module = get_peft_model(llm, lora)
    return peft.requires_grad_(True)


class Nano(nn.Module):
    """Encoder, projector, LLM and the throwaway heads."""

    def __init__(self, sizes: Sizes, coder: Coder) -> None:
        super().__init__()
        self.sizes, self.coder, self.mel = sizes, coder, LogMel()
        self.encoder = build_encoder(sizes)
        self.proj = nn.Linear(sizes.d_model, sizes.hidden)
        self.llm = build_llm(sizes)
        self.char_head = nn.Linear(sizes.d_model, SUB_FRAMES * (len(CHARS) + 1))
        self.phone_head = nn.Linear(sizes.d_model, SUB_FRAMES * len(PHONES))
        self.token_head = nn.Linear(sizes.d_model, sizes.vocabulary + 1)
        self.blank = nn.Parameter(torch.randn(sizes.hidden) * 0.02)
        """What the audio slot holds where CTC says blank, in the LM's pre-training."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.blank.device

    @property
    def embeddings(self) -> nn.Embedding:
        """The LLM's input table, tied to its head."""
        found: nn.Embedding = self.llm.get_input_embeddings()  # type: ignore[operator]
        return found

    def encode(self, wav: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Waveforms (B, S), lengths (B,) -> hidden (B, N, d_model), lengths (B,)."""
        hidden, frames = self.layers(wav, lengths)
        return hidden[-1], frames

    def layers(
        self,
        wav: torch.Tensor,
        lengths: torch.Tensor,
        formants: torch.Tensor | None = None,
        masks: torch.Generator | None = None,
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Waveforms (B, S), lengths (B,) -> what each layer gives (B, N, d_model), first its input; lengths (B,).

        Args:
            formants: factors (B,) by which to move them; None for none.
            masks: the randomness of SpecAugment; None for none.
        """
        with torch.no_grad(), torch.autocast(wav.device.type, enabled=False):
            features, mask = self.mel.features(wav, lengths, formants)
            if masks is not None:
                features = spec_augment(features, masks)
        out = self.encoder(
            input_features=features, attention_mask=mask, output_attention_mask=True, output_hidden_states=True
        )
        return out.hidden_states, out.attention_mask.sum(-1)

    def phone_logits(self, layers: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """What each layer gives -> (B, 3 N, phones), read two thirds up: the layers above may think in letters."""
        hidden = layers[-1 - (len(layers) - 1) // 3]
        logits: torch.Tensor = self.phone_head(hidden).float()
        return logits.view(hidden.shape[0], -1, len(PHONES))

    def char_log_probs(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, N, d_model) -> (B, 3 N, 1 + chars), blank first."""
        logits = self.char_head(hidden).float()
        logits = logits.view(hidden.shape[0], -1, len(CHARS) + 1)
        return F.log_softmax(logits, -1)

    def token_log_probs(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, N, d_model) -> (B, N, vocabulary + 1), blank last."""
        return F.log_softmax(self.token_head(hidden).float(), -1)

    def lm_loss(self, audio: list[torch.Tensor], texts: list[str]) -> torch.Tensor:
        """Cross-entropy of the texts after the chat prompt with `audio` embeddings (N_i, hidden) in it."""
        coder, table = self.coder, self.embeddings
        rows, targets = [], []
        for frames, text in zip(audio, texts, strict=True):
            answer = [*coder.encode(text), coder.end]
            ids = torch.tensor([*coder.before, *coder.after, *answer], device=self.device)
            known = table(ids)
            rows.append(torch.cat([known[: len(coder.before)], frames.to(known.dtype), known[len(coder.before) :]]))
            skip = len(rows[-1]) - len(answer)
            targets.append(torch.tensor([IGNORE] * skip + answer, device=self.device))
        return self.sequence_loss(rows, targets)

    def sequence_loss(self, rows: list[torch.Tensor], targets: list[torch.Tensor]) -> torch.Tensor:
        """Mean next-token cross-entropy of embeddings (L_i, hidden) where targets (L_i,) are not ignored."""
        embeds = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        labels = nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORE)
        sizes = torch.tensor([len(row) for row in rows], device=self.device)
        mask = (torch.arange(embeds.shape[1], device=self.device)[None] < sizes[:, None]).long()
        hidden = self.llm.base_model.model.model(inputs_embeds=embeds, attention_mask=mask, use_cache=False)  # type: ignore[union-attr,operator]
        states, wanted = hidden.last_hidden_state[:, :-1], labels[:, 1:]
        picked = wanted != IGNORE
        logits = F.linear(states[picked], self.embeddings.weight).float()
        return F.cross_entropy(logits, wanted[picked])


def spec_augment(features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Masks two bands and two stretches of time in about half of the rows; (B, T, n_mels) kept."""
    batch, time, mels = features.shape

    def spans(size: int, longest: int) -> torch.Tensor:
        width = torch.randint(0, max(1, longest), (batch, 1), generator=generator)
        start = (torch.rand(batch, 1, generator=generator) * (size - width)).long()
        on = torch.rand(batch, 1, generator=generator) < 0.5
        at = torch.arange(size)[None]
        return (at >= start) & (at < start + width) & on

    for _ in range(2):
        features = features.masked_fill(spans(mels, 20)[:, None, :].to(features.device), 0.0)
        features = features.masked_fill(spans(time, min(20, time // 6))[:, :, None].to(features.device), 0.0)
    return features

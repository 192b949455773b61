"""The frozen ears: Whisper's log-mel and encoder, at the clip's own length instead of padded to 30 s."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

Wave = npt.NDArray[np.float32]
RATE, HOP, N_FFT, N_MELS = 16_000, 160, 400, 80
STACK = 4
"""Encoder frames of 20 ms that make one audio frame of 80 ms."""
FRAME = STACK * 2 * HOP
"""Samples of one audio frame: clips are padded to a multiple."""


@cache
def _filters() -> torch.Tensor:
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(1 + N_FFT // 2, N_MELS, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(bank).float().T.contiguous()


def log_mel(wav: torch.Tensor) -> torch.Tensor:
    """(S,) at 16 kHz -> (80, S / 160): openai/whisper audio.py, `log_mel_spectrogram`."""
    window = torch.hann_window(N_FFT)
    spectrum = torch.stft(wav, N_FFT, HOP, window=window, return_complex=True)[:, :-1].abs().square()
    log = (_filters() @ spectrum).clamp(min=1e-10).log10()
    return (torch.maximum(log, log.max() - 8.0) + 4.0) / 4.0


def padded(wav: Wave) -> Wave:
    """The clip (S,) with zeros behind, up to whole audio frames: at least one."""
    length = max(1, -(-len(wav) // FRAME)) * FRAME
    return np.pad(wav, (0, length - len(wav)))


def load_encoder(folder: Path) -> WhisperEncoder:
    """The encoder of a Whisper: a folder of transformers' files, or one with CTranslate2's model.bin."""
    from transformers import WhisperForConditionalGeneration

    from ..ctranslate2 import load_whisper

    model: WhisperForConditionalGeneration
    if (folder / "config.json").exists() and list(folder.glob("*.safetensors")):
        model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    else:
        model = load_whisper(folder)
    encoder: WhisperEncoder = model.model.encoder
    return encoder.requires_grad_(False)


@torch.inference_mode()
def hear(encoder: WhisperEncoder, wav: Wave, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(S,) at 16 kHz, at most 30 s -> states (S / 320, d_model) float16, a multiple of 4 rows.

    transformers' `WhisperEncoder.forward` insists on 3,000 mel frames; this is its body (modeling_whisper.py) with the
    first positions only. The ears hear a clip of 5 s in a sixth of the time that way.
    """
    mel = log_mel(torch.from_numpy(padded(wav)))[None]
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        x = torch.nn.functional.gelu(encoder.conv1(mel))
        x = torch.nn.functional.gelu(encoder.conv2(x)).transpose(1, 2)
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        for layer in encoder.layers:
            out = layer(x, None)
            x = out[0] if isinstance(out, tuple) else out
        x = encoder.layer_norm(x)
    return x[0].to(torch.float16)

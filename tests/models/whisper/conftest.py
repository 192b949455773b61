"""A random Whisper of tiny sizes, in exactly the layout of openai/whisper-*.en."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from composite import tokenizer
from transformers import WhisperConfig, WhisperForConditionalGeneration

from canary_hub import Hub
from canary_hub.pipeline import Stack

TIMES = [f"<|{i * 0.02:.2f}|>" for i in range(1501)]
CONTROL = ["<|endoftext|>", "<|startoftranscript|>", "<|nospeech|>", "<|notimestamps|>", *TIMES]
END, START, NO_SPEECH, NO_TIMES = range(256, 260)
VOCAB = 256 + len(CONTROL)


@pytest.fixture(scope="session")
def whisper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=VOCAB, num_mel_bins=80, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, init_std=0.3, decoder_start_token_id=START,
        bos_token_id=END, eos_token_id=END, pad_token_id=END, begin_suppress_tokens=None, suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config).eval()
    # Random weights would write times unasked, which generate() takes for the end of a segment.
    model.model.decoder.embed_tokens.weight.data[NO_TIMES + 1 :] *= 0.01
    model.save_pretrained(folder)
    tokenizer(folder, CONTROL, ["<|endoftext|>"])
    generation = {
        "alignment_heads": [[1, 0], [1, 3]], "suppress_tokens": [1, 2, 7, START, NO_SPEECH],
        "begin_suppress_tokens": [220, END], "eos_token_id": END, "pad_token_id": END, "bos_token_id": END,
        "decoder_start_token_id": START, "no_timestamps_token_id": NO_TIMES, "max_initial_timestamp_index": 50,
        "is_multilingual": False, "return_timestamps": False, "max_length": 448,
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


@pytest.fixture(scope="session")
def model(whisper_folder: Path) -> WhisperForConditionalGeneration:
    """transformers' own."""
    model = WhisperForConditionalGeneration.from_pretrained(whisper_folder, attn_implementation="eager")
    return model.eval()


@pytest.fixture(scope="session")
def stack(whisper_folder: Path) -> Stack:
    return Hub().load("whisper-tiny.en", weights={"whisper": whisper_folder}, dtype="float32", device="cpu")

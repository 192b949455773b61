"""The nano's tokenizer: byte-level BPE with Qwen's special tokens, in the files that Qwen3 has."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from canary_hub.atomic import beside, write_text
from canary_hub.errors import WeightsError

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PLAIN_ADDED = ("<think>", "</think>")
FILES = ("tokenizer_config.json", "tokenizer.json")
"""The latter is written last: where it is, both are."""
PLACEHOLDER = "<|audioplaceholder|>"
PROMPT = ("<|im_start|>user\nTranscribe the following: ", "<|im_end|>\n<|im_start|>assistant\n")
"""The chat prompt before and after the audio."""
# Qwen3's own splitting rule.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts: Iterable[str], folder: Path, size: int = 512) -> None:
    """Writes tokenizer.json and tokenizer_config.json to `folder`.

    Args:
        size: rows of the embedding table. The tokenizer gets at most `size - 1` entries: the
            placeholder's id, one past the last, must be inside the table, as in the published model.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = BpeTrainer(
        vocab_size=size - 1 - len(SPECIALS) - len(PLAIN_ADDED),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # The prompt's own words ("user", "assistant", "Transcribe the following: ") become whole tokens.
    prompt = ["user\nTranscribe the following: ", "assistant\n"] * 200
    tokenizer.train_from_iterator([*texts, *prompt], trainer)
    first = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS])
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in PLAIN_ADDED])
    write_text(folder / "tokenizer_config.json", json.dumps(_config(first), indent=1, ensure_ascii=False) + "\n")
    with beside(folder / "tokenizer.json") as part:  # last: where it is, both are
        tokenizer.save(str(part))


def take_tokenizer(given: Path, folder: Path) -> None:
    """Copies the tokenizer's two files from `given` to `folder`, unless that is where they are.

    Raises: WeightsError when they are not there.
    """
    for name in FILES:
        if (given / name).resolve() != (folder / name).resolve():
            try:
                write_text(folder / name, (given / name).read_text("utf-8"))
            except OSError as error:
                raise WeightsError(f"There is no tokenizer in {given}: {error}.") from error


def _config(first: int) -> dict[str, Any]:
    added = {
        str(first + i): {
            "content": name,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": name in SPECIALS,
        }
        for i, name in enumerate(SPECIALS + PLAIN_ADDED)
    }
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": list(SPECIALS[1:]),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


class Coder:
    """Text <-> ids by the files in `folder`."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.size: int = self._tokenizer.get_vocab_size()
        self.end = self._id("<|im_end|>")
        self.pad = self._id("<|endoftext|>")
        self.before, self.after = (self.encode(part) for part in PROMPT)

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise WeightsError(f"The tokenizer has no {token}: it is not a nano's.")
        return int(found)

    def encode(self, text: str) -> list[int]:
        """Ids of the text; special tokens written in it count as such."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of the ids, without special tokens and outer space."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text.strip()

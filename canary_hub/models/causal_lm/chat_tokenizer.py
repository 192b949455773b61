"""The base LLM's tokenizer with the placeholder, such that typed text can never become a control token."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ...errors import WeightsError
from ...stages import AudioSlot, Segment, Text


class ChatTokenizer:
    """Qwen's tokenizer.json; a "<|im_end|>" typed by a user is spelled out in plain pieces.

    placeholder_id: the id of `placeholder` where the tokenizer has it, else the next free one (151669
        for Qwen3), which may lie past the embedding table.
    """

    def __init__(self, tokenizer_json: Path, config_json: Path, placeholder: str) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer_json))
            config: dict[str, Any] = json.loads(config_json.read_text("utf-8"))
        except Exception as error:  # tokenizers raises bare Exception
            raise WeightsError(
                f"The tokenizer in {str(tokenizer_json.parent)!r} cannot be read: {error}.", "Fetch it again."
            ) from error
        self.placeholder = placeholder
        known = self._tokenizer.token_to_id(placeholder)
        self.placeholder_id: int = self._tokenizer.get_vocab_size() if known is None else known
        self.eos_ids: tuple[int, ...] = (self._config_id(config, "eos_token"),)
        self.pad_id = self._config_id(config, "pad_token")
        added = {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}
        self._control = re.compile("(" + "|".join(map(re.escape, sorted({placeholder, *added}, reverse=True))) + ")")

    def _config_id(self, config: dict[str, Any], key: str) -> int:
        token = config.get(key)
        token = token["content"] if isinstance(token, dict) else token
        return self.control_id(str(token))

    def control_id(self, token: str) -> int:
        """The id of a control token. Raises: WeightsError when the tokenizer lacks it."""
        id = self._tokenizer.token_to_id(token)
        if id is None:
            raise WeightsError(f"The tokenizer has no token {token!r}.", "Is this the base LLM's tokenizer?")
        return int(id)

    def encode(self, segments: Sequence[Segment]) -> list[int]:
        """Prompt pieces -> ids; neighbouring plain texts are read as one, as the chat template writes them."""
        ids: list[int] = []
        for plain, group in groupby(segments, key=lambda piece: isinstance(piece, Text) and not piece.control):
            pieces = list(group)
            if plain:
                text = "".join(piece.text for piece in pieces if isinstance(piece, Text))
                ids += self._encode_plain(text)
            else:
                ids += [
                    self.placeholder_id if isinstance(piece, AudioSlot) else self.control_id(piece.text)
                    for piece in pieces
                ]
        return ids

    def split_control(self, text: str) -> list[Segment]:
        """Trusted text with tokens spelled out -> pieces: the placeholder and added tokens become what
        they spell, as NeMo's tokenizer reads a prompt."""
        return [
            AudioSlot() if piece == self.placeholder else Text(piece, control=bool(i % 2))
            for i, piece in enumerate(self._control.split(text))  # odd pieces are the matches
            if piece
        ]

    def _encode_plain(self, text: str) -> list[int]:
        """Encode in pieces that cut every spelled-out control token in two, so that none can match."""
        ids: list[int] = []
        for i, piece in enumerate(self._control.split(text)):
            for part in (piece[:1], piece[1:]) if i % 2 else (piece,):
                ids += self._tokenizer.encode(part, add_special_tokens=False).ids
        return ids

    def piece(self, id: int) -> str:
        """The text of one token alone: its name for a control token."""
        if id == self.placeholder_id:
            return self.placeholder
        text: str = self._tokenizer.decode([id], skip_special_tokens=False)
        return text

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text without end, pad and placeholder: NeMo strips only these, not every special token."""
        skipped = {*self.eos_ids, self.pad_id, self.placeholder_id}
        text: str = self._tokenizer.decode([id for id in ids if id not in skipped], skip_special_tokens=False)
        return text

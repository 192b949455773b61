"""Whisper's tokenizer: words, control tokens, and one token for every 20 ms as a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from ...errors import OptionError, WeightsError
from ...stages import AudioSlot, Segment

PLACEHOLDER = "<|audio|>"
NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")
"""The token whose probability says that nobody speaks, by its name today and in the older files."""


class WhisperTokenizer:
    """openai/whisper's tokenizer.json. Every id from the end token on is a control token or a time.

    placeholder_id: stands for the audio slot; the next id that is free.
    """

    def __init__(self, path: Path, vocab_size: int, eos_id: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise WeightsError(f"The tokenizer {str(path)!r} cannot be read: {error}.", "Fetch it again.") from error
        self.eos_ids: tuple[int, ...] = (eos_id,)
        self.pad_id = eos_id
        self.placeholder_id = max(vocab_size, self._tokenizer.get_vocab_size())

    def known(self, *names: str) -> int | None:
        """The id of the first of these control tokens that the tokenizer has."""
        ids = (self._tokenizer.token_to_id(name) for name in names)
        return next((int(id) for id in ids if id is not None), None)

    def encode(self, segments: Sequence[Segment]) -> list[int]:
        """Prompt pieces -> ids. Raises: OptionError for a control token that the model does not have."""
        ids: list[int] = []
        for piece in segments:
            if isinstance(piece, AudioSlot):
                ids.append(self.placeholder_id)
            elif piece.control:
                id = self.known(piece.text)
                if id is None:
                    raise OptionError(f"This Whisper does not know {piece.text}.", "Choose another language or task.")
                ids.append(id)
            else:
                ids += self._plain(self._tokenizer.encode(piece.text, add_special_tokens=False).ids)
        return ids

    def _plain(self, ids: Iterable[int]) -> list[int]:
        return [id for id in ids if id < self.eos_ids[0]]

    def decode(self, ids: Iterable[int]) -> str:
        """New ids -> text, without control tokens and times."""
        text: str = self._tokenizer.decode(self._plain(ids), skip_special_tokens=False)
        return text

    def piece(self, id: int) -> str:
        """The text of one id alone: a control token's name."""
        if id == self.placeholder_id:
            return PLACEHOLDER
        text: str = self._tokenizer.decode([id], skip_special_tokens=False)
        return text

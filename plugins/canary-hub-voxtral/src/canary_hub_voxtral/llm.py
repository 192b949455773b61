"""Voxtral's LLM. Its tekken.json is read by mistral-common such that typed text can never become a control token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from canary_hub.errors import WeightsError
from canary_hub.models.causal_lm.backend import CausalLMBackend
from canary_hub.models.families.backend import eos_ids, load_llm
from canary_hub.stages import AudioSlot, Build, Segment, Text
from canary_hub.weights.checkpoint import Checkpoint

from .plugin import FAMILY

FILE = "tekken.json"


class VoxtralTokenizer:
    """Tekken encodes plain text and knows no control token in it; control tokens are looked up by name."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        path = checkpoint.file(FILE)
        try:
            self._tekken = Tekkenizer.from_file(path)
        except Exception as error:  # AssertionError, KeyError and ValueError, by what is wrong with the file
            raise WeightsError(f"{str(path)!r} is no tokenizer: {error!r}.", "Fetch it again.") from error
        self.placeholder_id = self.control_id(FAMILY.token)
        self.pad_id = self.control_id("<pad>")
        self.eos_ids = eos_ids(checkpoint)

    def control_id(self, token: str) -> int:
        """The id of a control token. Raises: WeightsError when the tokenizer lacks it."""
        try:
            return int(self._tekken.get_special_token(token))
        except (KeyError, ValueError) as error:
            raise WeightsError(f"{FILE} has no token {token!r}.", "Is this Voxtral's own tokenizer?") from error

    def encode(self, segments: Sequence[Segment]) -> list[int]:
        """Prompt pieces -> ids; neighbouring plain texts are read as one."""
        ids: list[int] = []
        for plain, group in groupby(segments, key=lambda piece: isinstance(piece, Text) and not piece.control):
            if plain:
                text = "".join(piece.text for piece in group if isinstance(piece, Text))
                ids += self._tekken.encode(text, bos=False, eos=False)
            else:
                ids += [
                    self.placeholder_id if isinstance(piece, AudioSlot) else self.control_id(piece.text)
                    for piece in group
                ]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text without control tokens."""
        return str(self._tekken.decode(list(ids), special_token_policy=SpecialTokenPolicy.IGNORE))

    def piece(self, id: int) -> str:
        """The text of one id alone; a control token's name."""
        return str(self._tekken.decode([id], special_token_policy=SpecialTokenPolicy.KEEP))


def build(build: Build) -> CausalLMBackend:
    """The Ministral (3B) inside Voxtral, whose module in transformers is Llama's."""
    return CausalLMBackend(load_llm(build, FAMILY), VoxtralTokenizer(build.weights[FAMILY.role]))

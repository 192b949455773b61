"""A family's tokenizer.json as the LLM backend needs it."""

from __future__ import annotations

from ...errors import WeightsError
from ...weights.checkpoint import Checkpoint
from ..causal_lm.chat_tokenizer import ChatTokenizer
from .family import Family
from .parts import read_json


class FamilyTokenizer(ChatTokenizer):
    """tokenizer.json with the ids that end an answer from generation_config.json."""

    def __init__(self, checkpoint: Checkpoint, family: Family) -> None:
        super().__init__(checkpoint.file("tokenizer.json"), checkpoint.file("tokenizer_config.json"), family.token)
        self.eos_ids = eos_ids(checkpoint)


def eos_ids(checkpoint: Checkpoint) -> tuple[int, ...]:
    """The ids that end an answer, as `generate` of transformers reads them.

    Raises: WeightsError when generation_config.json is missing or names none.
    """
    path = checkpoint.file("generation_config.json")
    ids = read_json(path).get("eos_token_id")
    if ids is None:
        raise WeightsError(f"{str(path)!r} names no eos_token_id.", "Without it no answer would end.")
    return tuple(int(id) for id in ids) if isinstance(ids, list) else (int(ids),)

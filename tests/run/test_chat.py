"""LLM mode stops an answer that has fallen into a loop, as a transcription is stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch

from canary_hub.run.chat import answers
from canary_hub.run.checks import REPEATED
from canary_hub.run.events import Answer
from canary_hub.specs import Options
from canary_hub.stages import ChatBackend, Step

MOST = 2048


class Looping:
    """Writes the ids of `start`, then those of `loop` over and over, up to `MOST`; `written` counts them."""

    eos_ids = (0,)

    def __init__(self, start: Sequence[int], loop: Sequence[int]) -> None:
        self.start, self.loop = list(start), list(loop)
        self.written, self.closed = 0, False

    def chat_segments(self, message: str) -> list[Any]:
        return []

    def chat_options(self, options: Options) -> Options:
        return options

    def tokenize(self, segments: Sequence[Any]) -> list[int]:
        return [1, 2]

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*ids.shape, 4)

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def generate(self, embeds: torch.Tensor, mask: torch.Tensor, options: Options, stop: Any = None) -> Iterator[Step]:
        ids = self.start + self.loop * (MOST // max(1, len(self.loop)))
        try:
            for id in ids[:MOST]:
                self.written += 1
                yield Step((id,), (-0.1,), torch.zeros(1, 4))
        finally:
            self.closed = True


def ask(llm: Looping) -> list[Answer]:
    return list(answers(cast(ChatBackend, llm), "test/looping", "Go on.", Options()))


def test_a_looping_answer_is_stopped_and_says_so() -> None:
    llm = Looping([5, 6], [7, 8, 9])
    *_, last = ask(llm)
    assert last == Answer("5 6 7 8 9", REPEATED)
    assert (llm.written, llm.closed) == (2 + 36, True)


def test_an_answer_that_repeats_a_word_a_few_times_goes_on() -> None:
    llm = Looping([*[7] * 8, 5, 0], [])
    *_, last = ask(llm)
    assert (last.text, last.note) == ("7 7 7 7 7 7 7 7 5 0", None)

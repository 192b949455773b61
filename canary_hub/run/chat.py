"""LLM mode: a text message in, an answer out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial

from ..errors import OptionError
from ..specs import Options
from ..stages import ChatBackend
from .checks import REPEATED, blamed, check_step, loop_start, writing
from .events import Answer

MAX_MESSAGE = 50_000
"""Characters of a message: an hour of speech, and what fits Qwen3's context of 40,960 tokens."""


def answers(llm: ChatBackend, id: str, message: str, options: Options) -> Iterator[Answer]:
    """What the LLM backend `id` writes to a message, with the adapter off, token by token.

    An answer that falls into a loop is stopped.

    Raises: OptionError for a message beyond `MAX_MESSAGE`; PluginError for what the backend does wrong.
    """
    import torch

    if len(message) > MAX_MESSAGE:
        raise OptionError(
            f"This message has {len(message):,} characters; it may have {MAX_MESSAGE:,}.",
            "Ask about a shorter part of the text.",
        )
    with blamed(id, "reading the message"):
        called = llm.chat_options(options)
        ids = torch.tensor([llm.tokenize(llm.chat_segments(message))])
        begin = partial(llm.generate, llm.embed(ids), ids >= 0, called)
    new: list[int] = []
    with closing(writing(id, begin)) as written, blamed(id, "decoding tokens"):
        for step in written:
            check_step(id, step, 1)
            if step.ids[0] is None:
                continue
            new.append(step.ids[0])
            loop = loop_start(new)
            if loop is not None:
                yield Answer(llm.decode(new[:loop]).strip(), REPEATED)
                return
            yield Answer(llm.decode(new).rstrip("\ufffd"))
    if new and new[-1] not in llm.eos_ids:
        yield Answer(llm.decode(new).strip(), cut_off(len(new)))


def cut_off(tokens: int) -> str:
    """The note of an answer that did not end by itself."""
    return f"cut off at its limit of {tokens} tokens"

"""The stack's prompt as tokens, from the best source at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..assembly import imported
from ..models.canary_qwen.checkpoint import BASE_LLM, PUBLISHED_LLM
from ..models.canary_qwen.layout import get
from ..run.result import PromptToken
from ..specs import Stage
from ..stages import AudioSlot, Inspectable, Segment
from .subject import Subject

if TYPE_CHECKING:
    from ..pipeline import Stack

RECORDED = (
    (151644, "<|im_start|>"), (872, "user"), (198, "\n"), (3167, "Trans"), (3114, "cribe"), (279, " the"),
    (2701, " following"), (25, ":"), (220, " "), (151669, "<|audioplaceholder|>"), (151645, "<|im_end|>"), (198, "\n"),
    (151644, "<|im_start|>"), (77091, "assistant"), (198, "\n"),
)  # fmt: skip
"""The published stack's default prompt as the tokenizer of Qwen/Qwen3-1.7B reads it: what can be shown where
those 11 MB are not on the machine."""
RECORDED_PAD_ID = 151643


@dataclass(frozen=True)
class Prompt:
    """The prompt with one placeholder.

    source: where its tokens are from, as words. eos_ids end an answer, pad_id fills rows that have ended.
    """

    tokens: tuple[PromptToken, ...]
    source: str
    placeholder_id: int | None
    eos_ids: tuple[int, ...]
    pad_id: int | None

    @property
    def ids(self) -> list[int] | None:
        """All ids; None where no tokenizer is at hand."""
        ids = [token.id for token in self.tokens if token.id is not None]
        return ids if len(ids) == len(self.tokens) else None

    @property
    def place(self) -> int:
        """The index of the placeholder."""
        return next(i for i, token in enumerate(self.tokens) if token.slot)


def prompt_of_stack(stack: Stack) -> Prompt:
    """By the loaded stack's own LLM backend."""
    llm = stack.component(Stage.LLM)
    template = stack.component(Stage.PROMPT_TEMPLATE)
    ids = llm.tokenize(template.render(stack.options[Stage.PROMPT_TEMPLATE]))
    texts = llm.pieces(ids) if isinstance(llm, Inspectable) else [llm.decode([id]) for id in ids]
    tokens = tuple(PromptToken(id, text, id == llm.placeholder_id) for id, text in zip(ids, texts, strict=True))
    pad_id = getattr(getattr(llm, "tokenizer", None), "pad_id", None)
    return Prompt(tokens, "the stack's tokenizer", llm.placeholder_id, tuple(llm.eos_ids), pad_id)


def prompt_without_weights(subject: Subject) -> Prompt:
    """Of a stack in the published layout: by its tokenizer where that is here, as recorded for the published
    default prompt, or else as the template's pieces."""
    segments = _rendered(subject)
    placeholder = str(get(subject.config, "audio_locator_tag"))
    base = subject.checkpoints[BASE_LLM]
    if base.available:
        return _tokenized(subject, segments)
    eos_ids = (int(subject.llm_config["eos_token_id"]),)
    texts = [placeholder if isinstance(segment, AudioSlot) else segment.text for segment in segments]
    if base.ref == PUBLISHED_LLM and "".join(texts) == "".join(text for _, text in RECORDED):
        tokens = tuple(PromptToken(id, text, text == placeholder) for id, text in RECORDED)
        source = "a record of the default prompt by the tokenizer of Qwen/Qwen3-1.7B"
        return Prompt(tokens, source, next(t.id for t in tokens if t.slot), eos_ids, RECORDED_PAD_ID)
    tokens = tuple(
        PromptToken(None, text, isinstance(segment, AudioSlot))
        for text, segment in zip(texts, segments, strict=True)
        if text
    )
    return Prompt(tokens, "the prompt template, without a tokenizer", None, eos_ids, None)


def _tokenized(subject: Subject, segments: Sequence[Segment]) -> Prompt:
    from ..models.canary_qwen.llm import load_tokenizer

    tokenizer = load_tokenizer(subject.resolved(Stage.LLM)[0])
    ids = tokenizer.encode(segments)
    tokens = tuple(PromptToken(id, tokenizer.piece(id), id == tokenizer.placeholder_id) for id in ids)
    return Prompt(tokens, "the stack's tokenizer", tokenizer.placeholder_id, tokenizer.eos_ids, tokenizer.pad_id)


def _rendered(subject: Subject) -> list[Segment]:
    """The template's pieces; in the published layout a template reads no weights."""
    part = subject.assembly.parts[Stage.PROMPT_TEMPLATE]
    build, call = subject.resolved(Stage.PROMPT_TEMPLATE)
    segments: list[Segment] = imported(part, part.factory)(build).render(call)
    return segments

"""Component fake/llm: bytes after the mean of what was read; it writes nonsense, always the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, Contract, Options, Port, Stage
from canary_hub.stages import AudioSlot, Build, RowStop, Segment, Step

if TYPE_CHECKING:
    import torch

CANARY_HUB_API = 2  # the version of hooks and specs that this is written for

CONTROL = ("<|im_start|>", "<|im_end|>")
VOCABULARY, HIDDEN_SIZE = 256 + len(CONTROL), 128
END, PLACEHOLDER = VOCABULARY - 1, VOCABULARY


class AnswerCall(Options):
    """How text is generated; may differ with every request."""

    max_new_tokens: int = Field(16, ge=1, le=4096, description="Longest answer per segment, in tokens")


class ByteLM:
    """A language model over bytes: the next is the one whose embedding lies closest to the mean of the last.

    table: (258, 128) embeddings of 256 bytes and the control tokens.
    """

    placeholder_id = PLACEHOLDER
    eos_ids = (END,)

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table
        self.nbytes = table.nbytes

    def tokenize(self, segments: Sequence[Segment]) -> list[int]:
        """Prompt pieces -> ids, one placeholder per audio slot; only a control piece becomes a control token."""
        ids: list[int] = []
        for piece in segments:
            if isinstance(piece, AudioSlot):
                ids.append(PLACEHOLDER)
            elif piece.control:
                ids.append(256 + CONTROL.index(piece.text))
            else:
                ids += piece.text.encode()
        return ids

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """(..., L) int64 -> (..., L, 128)."""
        return self.table[ids.to(self.table.device)]

    def generate(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        options: Options,
        stop: RowStop | None = None,
    ) -> Iterator[Step]:
        """(B, L, 128), (B, L) left-padded -> one `Step` per decoding step, until all rows stopped."""
        assert isinstance(options, AnswerCall)
        mask = attention_mask.to(inputs_embeds.device)[..., None]
        state = inputs_embeds.masked_fill(~mask, 0.0).sum(1) / mask.sum(1)
        rows: list[list[int]] = [[] for _ in range(len(state))]
        running = [True] * len(rows)
        for _ in range(options.max_new_tokens):
            logits = state.to(self.table) @ self.table.T
            best = logits.argmax(-1)
            logprobs = logits.float().log_softmax(-1).gather(1, best[:, None])[:, 0].tolist()
            ids = [id if on else None for id, on in zip(best.tolist(), running, strict=True)]
            yield Step(
                tuple(ids), tuple(p if on else float("nan") for p, on in zip(logprobs, running, strict=True)), logits
            )
            for row, id in enumerate(ids):
                if id is not None:
                    rows[row].append(id)
                    running[row] = id != END and not (stop is not None and stop(row, rows[row]))
            if not any(running):
                return
            state = state.to(self.table) - 0.5 * self.embed(best)

    def decode(self, ids: Sequence[int]) -> str:
        """New token ids -> text."""
        return bytes(id for id in ids if id < 256).decode(errors="replace")


def build(build: Build) -> ByteLM:
    """Factory, called on first use. Real weights come from `build.weights[role].tensors()`."""
    import torch

    table = torch.randn(VOCABULARY, HIDDEN_SIZE, generator=torch.Generator().manual_seed(0))
    return ByteLM(table.to(build.device, getattr(torch, build.dtype)))


CONTRACT = Contract(
    accepts=(
        Port("embeds", dim=HIDDEN_SIZE, layout="B M H"),
        Port("prompt", layout="qwen chat", token="<|audioplaceholder|>"),
    ),
    produces=(Port("text"),),
)


@hookimpl
def canary_components() -> Iterable[ComponentSpec]:
    """What this plugin adds."""
    return [
        ComponentSpec(
            stage=Stage.LLM,
            id="fake/llm",
            title="Bytes after the mean of what was read: nonsense, always the same",
            factory=f"{__name__}:build",
            contract=CONTRACT,
            call_options=AnswerCall,
        )
    ]

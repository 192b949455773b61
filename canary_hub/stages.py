"""The five stage protocols, and what a factory is given to build a component.

Shapes: B batch, S samples, F n_mels, T mel frames, N encoder frames, D d_model, M audio frames
(audio embeddings), H hidden_size, L prompt positions. Lengths are int64 tensors (B,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .specs import Options, WeightsRef

if TYPE_CHECKING:
    from pathlib import Path

    import torch


class Tensors(Protocol):
    """The tensors of a checkpoint's files: a mapping of names to shapes, and each as a tensor of its own dtype."""

    folder: Path

    def __getitem__(self, name: str) -> tuple[int, ...]:
        """The tensor's shape."""
        ...

    def __contains__(self, name: object) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...

    def dtype(self, name: str) -> str:
        """The tensor's dtype as safetensors writes it, such as "BF16"."""
        ...

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor, mapped from its file. Raises: WeightsError for one that is not there."""
        ...


class WeightFiles(Protocol):
    """The files behind a `WeightsRef`; nothing is read or fetched before it is asked for.

    `weights.checkpoint.Checkpoint` is what a component is given.
    """

    ref: WeightsRef

    @property
    def name(self) -> str:
        """A short name for messages and provenance tags."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """config.json. Raises: WeightsError."""
        ...

    def fingerprint(self) -> str:
        """What tells these weights from all others, whatever their folder is called."""
        ...

    @property
    def available(self) -> bool:
        """Whether loading needs no download."""
        ...

    def file(self, name: str) -> Path:
        """The path of one file, fetched when it has to be. Raises: WeightsError."""
        ...

    def folder(self) -> Path:
        """The folder with all files, fetched when they have to be. Raises: WeightsError."""
        ...

    def tensors(self) -> Tensors:
        """The safetensors files, opened and mapped. Raises: WeightsError."""
        ...

    def with_files(self, files: tuple[str, ...]) -> WeightFiles:
        """The same repository or folder, asked for other files."""
        ...


@dataclass(frozen=True)
class Build:
    """What a factory and a contract function are called with.

    options: the component's validated build options.
    weights: role -> checkpoint; nothing of it is read before it is asked for.
    dtype, device: torch names ("bfloat16", "cpu"); a preprocessor may stay in float32.
    """

    options: Options
    weights: Mapping[str, WeightFiles] = field(default_factory=lambda: MappingProxyType({}))
    dtype: str = "float32"
    device: str = "cpu"


@dataclass(frozen=True)
class Text:
    """A piece of a prompt. Only a `control` piece may be read as one control token such as
    "<|im_start|>"; everything else stays plain text, whatever it spells."""

    text: str
    control: bool = False


@dataclass(frozen=True)
class AudioSlot:
    """The place in a prompt where the audio embeddings go."""


Segment = Text | AudioSlot


@dataclass(frozen=True)
class Step:
    """One decoding step of a batch.

    ids: the new token of each row; None for a row that had already stopped.
    logprobs: natural log of each token's probability under a softmax over the whole vocabulary
        (nan for stopped rows).
    logits: (B, V) in the model's dtype, from which the ids were chosen. A backend that is told the most probable
        tokens alone gives their log-probabilities, and all others equal shares of the rest.
    attention: (B, heads, L) float32, where it was asked for and the backend sees it: how much the position that
        wrote each token attends to each prompt position, over the heads of all layers.
    """

    ids: tuple[int | None, ...]
    logprobs: tuple[float, ...]
    logits: torch.Tensor
    attention: torch.Tensor | None = None


RowStop = Callable[[int, Sequence[int]], bool]
"""Called with (row, its new ids so far); True stops that row."""


@runtime_checkable
class Preprocessor(Protocol):
    """Waveform to features (log-mel)."""

    def __call__(self, wav: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, S) float32 at the stack's sample rate, (B,) -> features (B, F, T) float32, lengths (B,)."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """Features to hidden vectors."""

    def __call__(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, F, T), (B,) -> hidden (B, N, D), lengths (B,); positions past a length are meaningless."""
        ...


@runtime_checkable
class Projector(Protocol):
    """Hidden vectors to audio embeddings in the LLM's space.

    One whose embeddings do not share the clip's time evenly, because they cover padding, too, says how long each
    is in an attribute `frame_seconds`.
    """

    def __call__(self, hidden: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, N, D), (B,) -> embeds (B, M, H), lengths (B,)."""
        ...


@runtime_checkable
class PromptTemplate(Protocol):
    """The chat prompt around the audio."""

    def render(self, options: Options) -> list[Segment]:
        """The prompt as pieces, never as one string: typed text cannot become a placeholder."""
        ...


@runtime_checkable
class LLMBackend(Protocol):
    """The language model that reads prompt and audio embeddings and writes text."""

    @property
    def placeholder_id(self) -> int:
        """The id that stands for an audio slot; it may lie past the embedding table."""
        ...

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The ids that end an answer."""
        ...

    def tokenize(self, segments: Sequence[Segment]) -> list[int]:
        """Prompt pieces -> ids, one `placeholder_id` per audio slot."""
        ...

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """(..., L) int64 -> (..., L, H)."""
        ...

    def generate(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        options: Options,
        stop: RowStop | None = None,
    ) -> Iterator[Step]:
        """(B, L, H), (B, L) left-padded -> one `Step` per decoding step, until all rows stopped.

        Closing the iterator stops the work within a token.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """New token ids -> text, without the control tokens that end or pad an answer."""
        ...


@runtime_checkable
class ChatBackend(LLMBackend, Protocol):
    """An LLM backend that also answers text prompts, with the speech adapter off (LLM mode)."""

    def chat_segments(self, message: str) -> list[Segment]:
        """A user message as a chat prompt without audio."""
        ...

    def chat_options(self, options: Options) -> Options:
        """`options` as LLM mode needs them: the speech adapter switched off."""
        ...


@runtime_checkable
class Inspectable(LLMBackend, Protocol):
    """An LLM backend that shows its vocabulary and attention, for the injection details."""

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token alone."""
        ...

    def nearest(self, embeds: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(M, H) -> ids (M, k) and cosines (M, k) of the closest rows of the embedding table."""
        ...

    def generate(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        options: Options,
        stop: RowStop | None = None,
        attention: bool = False,
    ) -> Iterator[Step]:
        """As any backend's; with `attention`, every step carries it where the backend sees it."""
        ...


@runtime_checkable
class Framed(LLMBackend, Protocol):
    """An LLM backend whose answers begin with something else than the transcript, which `decode` leaves out."""

    def left_out(self, ids: Sequence[int]) -> int:
        """How many of an answer's first tokens are not part of its text."""
        ...

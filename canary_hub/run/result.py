"""What a run recorded: stages, segments, the result, and the trace behind the injection details.

Plain data, no torch. `Trace.to_json` is the documented form (see the dataclasses for every field);
`TRACE_VERSION` grows when a field changes its meaning or goes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

TRACE_VERSION = 1


@dataclass(frozen=True)
class StageRecord:
    """One stage's work on one batch of segments.

    shape, dtype: of what the stage produced.
    shared: another run had produced it already; `seconds` is what it took there.
    """

    stage: str
    component: str
    seconds: float
    shape: tuple[int, ...]
    dtype: str
    shared: bool = False


@dataclass
class SegmentResult:
    """One stretch of audio that was decoded in one piece.

    start, end: seconds in the file.
    audio_frames: how many audio embeddings stood in the prompt.
    tokens: new tokens, the end token included.
    confidence: geometric mean of the tokens' probabilities; None without tokens.
    note: why the text is not simply what the model wrote to its end, else None.
    """

    start: float
    end: float
    text: str = ""
    audio_frames: int = 0
    tokens: int = 0
    confidence: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class PromptToken:
    """A token of the prompt; `slot` marks a placeholder that audio takes the place of.

    id: None, and `piece` a whole stretch of the prompt, only where no tokenizer was at hand: never in a run.
    """

    id: int | None
    piece: str
    slot: bool = False


@dataclass(frozen=True)
class Near:
    """A vocabulary token near an audio embedding, by cosine; not what the model "heard"."""

    id: int
    piece: str
    cosine: float


@dataclass(frozen=True)
class Frame:
    """One audio embedding: its Euclidean norm and its nearest vocabulary tokens."""

    norm: float
    nearest: tuple[Near, ...] = ()


@dataclass(frozen=True)
class Alternative:
    """A token that could have been written instead, with its probability."""

    id: int
    piece: str
    probability: float


@dataclass(frozen=True)
class TokenTrace:
    """A generated token.

    probability: under a softmax over the whole vocabulary (before any temperature).
    entropy: of that distribution, in bits.
    frame: the audio frame at which the token is estimated to be spoken; None without attention.
    """

    id: int
    piece: str
    probability: float
    entropy: float
    alternatives: tuple[Alternative, ...]
    frame: int | None = None


@dataclass(frozen=True)
class WordTrace:
    """A word, its tokens [first, stop), and its estimated times in seconds of the file."""

    text: str
    first: int
    stop: int
    start: float
    end: float


@dataclass
class SegmentTrace:
    """The injection of one segment.

    prompt: the prompt's tokens; text before the slot + placeholder + text after.
    frames: the audio embeddings that took the placeholder's place, in order.
    frame_seconds: seconds of audio per frame.
    words: estimated from attention; empty where the LLM backend gives none.
    attention: generated tokens x frames, each row scaled to a largest value of 1; None likewise.
    log_mel: a picture of the features, low frequencies first, rows x columns of 0..255.
    """

    start: float
    end: float
    prompt: tuple[PromptToken, ...]
    frames: tuple[Frame, ...] = ()
    frame_seconds: float = 0.0
    tokens: tuple[TokenTrace, ...] = ()
    words: tuple[WordTrace, ...] = ()
    attention: tuple[tuple[float, ...], ...] | None = None
    log_mel: tuple[tuple[int, ...], ...] = ()

    @property
    def counts(self) -> str:
        """ "9 text + 1 placeholder + 5 text = 15 tokens -> 9 + 138 + 5 = 152 embeddings"."""
        at = next((i for i, token in enumerate(self.prompt) if token.slot), len(self.prompt))
        slots = sum(token.slot for token in self.prompt)
        after = len(self.prompt) - at - slots
        n = len(self.frames)
        return (
            f"{at} text + {slots} placeholder + {after} text = {len(self.prompt)} tokens "
            f"-> {at} + {n} + {after} = {at + n + after} embeddings"
        )


@dataclass
class Trace:
    """Everything recorded about one file. `parameters` and `nbytes` are per stage."""

    file: str
    duration: float
    stack: str
    components: dict[str, str]
    stages: list[StageRecord] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)
    nbytes: dict[str, int] = field(default_factory=dict)
    segments: list[SegmentTrace] = field(default_factory=list)
    version: int = TRACE_VERSION

    def to_json(self) -> dict[str, Any]:
        """Nested dicts and lists of plain values, ready for `json.dumps`."""
        return asdict(self)


@dataclass
class Result:
    """One transcribed file.

    duration: seconds of audio.
    seconds: time per stage, "audio" (decoding, resampling, segmentation) included. Files decoded
        together share a batch's time in proportion to their audio.
    trace: the injection details, when they were asked for.
    """

    file: str
    duration: float
    stack: str
    segments: list[SegmentResult] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    trace: Trace | None = None

    @property
    def text(self) -> str:
        """The whole transcript."""
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def total_seconds(self) -> float:
        """Time over all stages."""
        return sum(self.seconds.values())

    @property
    def speed(self) -> float:
        """Seconds of audio per second of work ("times real time")."""
        return self.duration / self.total_seconds if self.total_seconds else 0.0

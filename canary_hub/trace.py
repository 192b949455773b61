"""What a run recorded: stages, segments and the result. Plain data, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class StageRecord:
    """One stage's work on one batch of segments.

    shape, dtype: of what the stage produced.
    """

    stage: str
    component: str
    seconds: float
    shape: tuple[int, ...]
    dtype: str


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


@dataclass
class Result:
    """One transcribed file.

    duration: seconds of audio.
    seconds: time per stage, "audio" (decoding, resampling, segmentation) included. Files decoded
        together share a batch's time in proportion to their audio.
    """

    file: str
    duration: float
    stack: str
    segments: list[SegmentResult] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

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

"""What a comparison found, as plain data, and its JSON form.

`VERSION` grows when a field changes its meaning or goes; new fields with a default do not count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from ..errors import HubError
from ..run.result import SegmentResult, Trace
from .distances import Distance
from .scoring import NORMALISERS, Diff, Errors, Normalise

KIND = "canary_hub comparison"
VERSION = 1


@dataclass(frozen=True)
class LaneStage:
    """What a stage cost a lane.

    component: its id; None for "audio" (decoding, resampling, segmentation).
    seconds: of its work on the whole file; where `shared`, what it took in the lane that did it.
    shared: the output, or a part of it, is another lane's: it was computed once.
    parameters: how many numbers were learnt. nbytes: what the built component takes.
    in_common: another lane uses the same built component; its bytes are in memory once.
    """

    component: str | None
    seconds: float = 0.0
    shared: bool = False
    parameters: int = 0
    nbytes: int = 0
    in_common: bool = False


@dataclass(frozen=True)
class LaneResult:
    """A lane that ran to its end.

    lane: the lane as one line; `lanes.parse_lane` reads it.
    components: ids by stage. options: build and call options by stage, defaults included.
    stages: cost by stage, "audio" first.
    first_token_seconds: from the start of the work (loading is not in it) to the first token, with the time of
        shared stages; None without tokens.
    errors: by normaliser, against the reference; empty without one.
    against_reference: word differences after Whisper's normaliser; None without a reference.
    against_first: word differences to the first lane, case and punctuation included; None for the first lane
        itself, and where that failed.
    distances: to the first lane, by stage; empty for the first lane itself.
    trace: the injection details, when they were asked for.
    """

    lane: str
    stack: str
    components: dict[str, str]
    options: dict[str, dict[str, Any]]
    dtype: str
    segments: tuple[SegmentResult, ...]
    stages: dict[str, LaneStage]
    first_token_seconds: float | None
    warnings: tuple[str, ...] = ()
    errors: dict[Normalise, Errors] = field(default_factory=dict)
    against_reference: tuple[Diff, ...] | None = None
    against_first: tuple[Diff, ...] | None = None
    distances: dict[str, Distance] = field(default_factory=dict)
    trace: Trace | None = None
    state: Literal["done"] = "done"

    @property
    def text(self) -> str:
        """The whole transcript."""
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def tokens(self) -> int:
        """New tokens, end tokens included."""
        return sum(segment.tokens for segment in self.segments)

    @property
    def seconds(self) -> float:
        """Work over all stages, as if the lane had run alone."""
        return sum(stage.seconds for stage in self.stages.values())

    @property
    def tokens_per_second(self) -> float | None:
        """New tokens per second of the LLM's work, its prefill included; None without tokens."""
        seconds = self.stages["llm"].seconds if "llm" in self.stages else 0.0
        return self.tokens / seconds if self.tokens and seconds else None

    @property
    def confidence(self) -> float | None:
        """Geometric mean of all tokens' probabilities; None without tokens."""
        logs = [(s.tokens, math.log(s.confidence)) for s in self.segments if s.confidence and s.confidence > 0]
        count = sum(tokens for tokens, _ in logs)
        return math.exp(sum(tokens * log for tokens, log in logs) / count) if count else None

    @property
    def parameters(self) -> int:
        """Learnt numbers of all stages."""
        return sum(stage.parameters for stage in self.stages.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all stages' components, those in common with other lanes included."""
        return sum(stage.nbytes for stage in self.stages.values())

    @property
    def nbytes_in_common(self) -> int:
        """The part of `nbytes` that other lanes use too."""
        return sum(stage.nbytes for stage in self.stages.values() if stage.in_common)


@dataclass(frozen=True)
class FailedLane:
    """A lane that did not come to its end: what happened, and what to do next."""

    lane: str
    message: str
    hint: str = ""
    state: Literal["failed"] = "failed"


_Lane = Annotated[LaneResult | FailedLane, Field(discriminator="state")]


@dataclass(frozen=True)
class Comparison:
    """Two to four lanes on one file, in the order in which they were given.

    duration: seconds of audio.
    in_turn: whether they ran one after the other; lanes that run at once wait for each other, and their times
        say so.
    """

    file: str
    duration: float
    lanes: Annotated[tuple[_Lane, ...], Field(min_length=2, max_length=4)]
    reference: str | None = None
    in_turn: bool = True

    @property
    def failed(self) -> list[FailedLane]:
        """The lanes that failed."""
        return [lane for lane in self.lanes if isinstance(lane, FailedLane)]

    def speed(self, lane: LaneResult) -> float:
        """Seconds of audio per second of the lane's work ("times real time")."""
        return self.duration / lane.seconds if lane.seconds else 0.0


def to_json(comparisons: Sequence[Comparison]) -> str:
    """A document that `from_json` reads; it has every field of the classes above, and each lane's text."""
    dumped = _adapter().dump_python(list(comparisons), mode="json")
    for comparison, plain in zip(comparisons, dumped, strict=True):
        for lane, fields in zip(comparison.lanes, plain["lanes"], strict=True):
            if isinstance(lane, LaneResult):
                fields["text"] = lane.text
    document = {"kind": KIND, "version": VERSION, "comparisons": dumped}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def from_json(document: str | bytes) -> list[Comparison]:
    """Read what `to_json` wrote, equal to what it was. Raises: HubError that says why it cannot be used."""
    export = "Export a comparison as JSON first."
    try:
        read = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise HubError(f"This file is no JSON: {error}.", export) from error
    if not isinstance(read, dict) or read.get("kind") != KIND:
        raise HubError("This file holds no comparison that canary_hub exported.", export)
    if read.get("version") != VERSION:
        raise HubError(
            f"This comparison is of version {read.get('version')!r}; version {VERSION} can be read.",
            "Export it again with the version of canary_hub that is installed here.",
        )
    try:
        comparisons = _adapter().validate_python(read.get("comparisons"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "comparisons"
        raise HubError(f"This comparison is damaged: {where}: {first['msg']}.", export) from error
    for comparison in comparisons:
        ran = [lane for lane in comparison.lanes if isinstance(lane, LaneResult)]
        if comparison.reference is not None and any(set(NORMALISERS) - set(lane.errors) for lane in ran):
            raise HubError("This comparison is damaged: it has a reference, and a lane without error rates.", export)
    return comparisons


@cache
def _adapter() -> TypeAdapter[list[Comparison]]:
    return TypeAdapter(list[Comparison])

"""What a benchmark measured, and its JSON form."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..atomic import save


@dataclass(frozen=True)
class Measures:
    """What one run took, or the median over runs.

    import_seconds: Python modules of all five components, torch and transformers with them.
    load_seconds: `Hub.load`. peak_gib, anonymous_gib: highest resident memory, mapped weights
        included, and of it what is no file; None where the system does not say.
    prefill_seconds: until the first token is known; ms_per_token: median over the later steps.
    total_seconds: from samples to the last token. speed: audio seconds per such second.
    """

    import_seconds: float
    load_seconds: float
    peak_gib: float | None
    anonymous_gib: float | None
    preprocessor_seconds: float
    encoder_seconds: float
    projector_seconds: float
    prefill_seconds: float
    ms_per_token: float
    total_seconds: float
    speed: float


UNITS = {
    "import_seconds": "import, s",
    "load_seconds": "load, s",
    "peak_gib": "peak memory, GiB",
    "anonymous_gib": "of it anonymous, GiB",
    "preprocessor_seconds": "preprocessor, s",
    "encoder_seconds": "encoder, s",
    "projector_seconds": "projector, s",
    "prefill_seconds": "prefill, s",
    "ms_per_token": "ms per token",
    "total_seconds": "total, s",
    "speed": "times real time",
}
"""The fields of `Measures` with titles for a table."""


@dataclass(frozen=True)
class Agreement:
    """How often the LLM backend chose the token that another one, `llm`, chose: `same` times of `of`.

    Both stood after the same tokens each time, those of `llm`, so that one difference does not make more.
    """

    llm: str
    same: int
    of: int


@dataclass(frozen=True)
class BenchReport:
    """A benchmark: what ran, where, the single runs and their median.

    audio_seconds, batch: length of a clip, and how many equal ones ran together.
    positions: prompt positions of a row; tokens: decoding steps taken.
    """

    stack: str
    components: dict[str, str]
    random_weights: bool
    dtype: str
    audio_seconds: float
    batch: int
    positions: int
    tokens: int
    machine: dict[str, Any]
    median: Measures
    runs: list[Measures]
    agreement: Agreement | None = None

    def write(self, path: Path) -> None:
        """As JSON. Raises: HubError when the file cannot be written."""
        save(path, json.dumps(asdict(self), indent=1) + "\n")

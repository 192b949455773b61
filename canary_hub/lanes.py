"""A lane: a stack with some of its parts and options replaced, written on one line.

nano
nano llm=canary/qwen3-peft max_new_tokens=50
nano encoder=canary/fastconformer-local window=60
canary-qwen-2.5b dtype=bfloat16 weights.canary="/data/my checkpoint" llm.seed=1
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import OptionError
from .options import parse_pairs
from .specs import Stage

LONGEST = 50_000
"""Characters of a lane; five long options fit."""

_WEIGHTS = "weights."
_FORM = "Write the stack's name, then what differs: nano llm=canary/qwen3-peft max_new_tokens=50"


@dataclass(frozen=True)
class Lane:
    """A stack by name and what replaces its parts; plain data, looked up by `Hub.stack`.

    components: ids by stage.
    options: values by option name, or by "stage.name" where several components have the option.
    weights: folders by role.
    dtype: "float32", "bfloat16" or "float16"; the stack's own by default.
    window: seconds of audio that are decoded in one piece at most; the stack's own by default.
    segmenter: id of what finds the pauses at which longer audio is cut; the stack's own by default.
    """

    stack: str
    components: Mapping[Stage, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    dtype: str | None = None
    window: float | None = None
    segmenter: str | None = None

    def __str__(self) -> str:
        """The line that `parse_lane` reads back."""
        pairs = {stage.value: id for stage, id in self.components.items()}
        pairs |= {name: _written(value) for name, value in self.options.items()}
        pairs |= {_WEIGHTS + role: folder for role, folder in self.weights.items()}
        if self.dtype:
            pairs["dtype"] = self.dtype
        if self.window is not None:
            pairs["window"] = repr(float(self.window)).removesuffix(".0")
        if self.segmenter:
            pairs["segmenter"] = self.segmenter
        return " ".join([self.stack, *(f"{key}={_quoted(value)}" for key, value in pairs.items())])

    @property
    def differences(self) -> dict[str, Any]:
        """What replaces the stack's own, as `Hub.stack` takes it."""
        return {name: value for name, value in vars(self).items() if name != "stack"}


def parse_lane(text: str) -> Lane:
    """Read "STACK stage=component option=value weights.role=folder dtype=bfloat16".

    Values with spaces stand in quotes. Names are looked up later, by `Hub.stack`.
    Raises: OptionError for a line that is not of this form.
    """
    if len(text) > LONGEST:
        raise OptionError(f"This lane has {len(text):,} characters; it may have {LONGEST:,}.", "Shorten its options.")
    words = shlex.shlex(text, posix=True, punctuation_chars=False)
    words.whitespace_split, words.escape, words.commenters = True, "", ""  # a backslash is part of a Windows path
    try:
        stack, *pairs = words
    except ValueError as error:
        why = "a quote is not closed" if text.strip() else "it is empty"
        raise OptionError(f"{text!r:.80} is no lane: {why}.", _FORM) from error
    if "=" in stack:
        raise OptionError(f"{text!r:.80} is no lane: it starts with {stack!r:.80}, no stack.", _FORM)
    given = parse_pairs(pairs)
    if len(given) < len(pairs):
        raise OptionError(f"{text!r:.80} gives a value twice.", "Leave one of them out.")
    components = {stage: given.pop(stage.value) for stage in Stage if stage.value in given}
    dtype, window, segmenter = (given.pop(key, None) for key in ("dtype", "window", "segmenter"))
    try:
        seconds = float(window) if window is not None else None
    except ValueError:
        seconds = math.nan
    if seconds is not None and not math.isfinite(seconds):
        raise OptionError(f"{text!r:.80}: window is {window!r:.80}, no number of seconds.", _FORM)
    weights = {key.removeprefix(_WEIGHTS): given.pop(key) for key in list(given) if key.startswith(_WEIGHTS)}
    return Lane(stack, components, given, weights, dtype, seconds, segmenter)


def _written(value: Any) -> str:
    """An option's value as one types it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(value: str) -> str:
    if value and not any(c.isspace() or c in "\"'" for c in value):
        return value
    return '"' + value.replace('"', '"\'"\'"') + '"'

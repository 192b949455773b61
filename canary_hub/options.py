"""Component options from names and values: where each belongs, and whether the value is usable."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .errors import OptionError
from .specs import ComponentSpec, Options, Stage

ByStage = Mapping[Stage, Mapping[str, Any]]


DTYPES = ("float32", "bfloat16", "float16")
"""What weights may be held in."""


def check_dtype(dtype: str | None) -> None:
    """Raises: OptionError for what is none of `DTYPES`; None, the stack's own, is good."""
    if dtype not in (None, *DTYPES):
        raise OptionError(f"There is no dtype {dtype!r} here.", f"Choose one of {', '.join(DTYPES)}.")


def parse_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """["key=value", ...] -> {key: value}. Raises: OptionError for a piece without "="."""
    parsed = {}
    for pair in pairs:
        key, sep, value = pair.partition("=")
        if not sep or not key.strip():
            raise OptionError(f"{pair!r:.80} is not of the form key=value.", "For example: -o max_new_tokens=64")
        parsed[key.strip()] = value
    return parsed


def by_stage(values: Mapping[str, Any], components: Mapping[Stage, ComponentSpec]) -> dict[Stage, dict[str, Any]]:
    """{"max_new_tokens": 64, "llm.seed": 1} -> {Stage.LLM: {...}}: each to the component that knows it.

    "stage.key" names the stage; a plain key must belong to one component alone.
    Raises: OptionError for an unknown or ambiguous key, with the nearest names.
    """
    known = {
        stage: {*spec.build_options.model_fields, *spec.call_options.model_fields} for stage, spec in components.items()
    }
    placed: dict[Stage, dict[str, Any]] = {}
    for key, value in values.items():
        prefix, dot, rest = key.partition(".")
        if dot and prefix in [stage.value for stage in Stage]:
            owners, name = [Stage(prefix)], rest
            owners = [stage for stage in owners if name in known.get(stage, ())]
        else:
            owners, name = [stage for stage, fields in known.items() if key in fields], key
        if not owners:
            every = sorted({field for fields in known.values() for field in fields})
            near = difflib.get_close_matches(name, every, n=3)
            raise OptionError(
                f"No component of this stack has an option {key!r:.80}.",
                f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(every) or 'none'}.",
            )
        if len(owners) > 1:
            choices = ", ".join(f"{stage.value}.{name}" for stage in owners)
            raise OptionError(f"Several components have an option {key!r:.80}.", f"Say which: {choices}.")
        placed.setdefault(owners[0], {})[name] = value
    return placed


def validate(model: type[Options], values: Mapping[str, Any], component: str) -> Options:
    """An options object. Raises: OptionError naming every value that is not usable."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        wrong = "; ".join(_reason(item) for item in error.errors())
        raise OptionError(
            f"Unusable option of {component}: {wrong}.",
            f"`canary-hub components {component}` shows the options and their bounds.",
        ) from error


def _reason(item: ErrorDetails) -> str:
    name = ".".join(str(part) for part in item["loc"])
    if item["type"] == "missing":
        return f"{name} has no default and must be given"
    return f"{name}: {item['msg']} (got {item['input']!r:.80})"


def build_and_call(spec: ComponentSpec, values: Mapping[str, Any]) -> tuple[Options, Options]:
    """One component's values, split into its build options and its call options.

    Raises: OptionError.
    """
    fields = spec.build_options.model_fields
    call = {key: value for key, value in values.items() if key not in fields}
    build = {key: value for key, value in values.items() if key in fields}
    return validate(spec.build_options, build, spec.id), validate(spec.call_options, call, spec.id)

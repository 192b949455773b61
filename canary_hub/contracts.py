"""What fits what: the ports of a stack's five components are compared before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ContractError
from .specs import Contract, Port, Stage

_UNITS = {"audio": "audio", "features": "features", "hidden": "hidden", "embeds": "embeddings", "prompt": "prompt"}


@dataclass(frozen=True)
class Fit:
    """The outcome of a check: `problems` refuse the stack, `warnings` are shown and it runs."""

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def require(self, stack: str) -> None:
        """Raises: ContractError with every problem at once, if there is any."""
        if self.problems:
            lines = "\n".join(f"  - {problem}" for problem in self.problems)
            raise ContractError(
                f"The parts of stack {stack!r} do not fit together:\n{lines}",
                "See `canary-hub components` for what each part accepts and produces.",
            )


def check_stack(contracts: Mapping[Stage, Contract], names: Mapping[Stage, str]) -> Fit:
    """Compare each component's accepted ports with what comes before it.

    Args:
        contracts: by stage; a missing stage is skipped (its own problem is known already).
        names: component ids for the messages.
    """
    producers: dict[str, tuple[str, Port]] = {"audio": ("the audio input", Port("audio"))}
    problems: list[str] = []
    warnings: list[str] = []
    for stage in Stage:
        if stage not in contracts:
            continue
        me = f"{stage.value} {names[stage]}"
        for want in contracts[stage].accepts:
            if want.kind not in producers:
                if all(s in contracts for s in Stage):
                    problems.append(f"{me} expects {_UNITS.get(want.kind, want.kind)}, which no part before it gives")
                continue
            giver, have = producers[want.kind]
            problem, warning = _compare(giver, have, me, want)
            problems += problem
            warnings += warning
        for port in contracts[stage].produces:
            producers[port.kind] = (me, port)
    return Fit(tuple(problems), tuple(warnings))


def _compare(giver: str, have: Port, taker: str, want: Port) -> tuple[list[str], list[str]]:
    wrong = [
        field for field in ("dim", "rate_hz", "layout", "token") if _differs(getattr(have, field), getattr(want, field))
    ]
    if wrong:
        return [f"{giver} gives {describe(have)}, {taker} expects {describe(want, wrong)}"], []
    if want.tag is not None and have.tag != want.tag:
        trained = have.tag or "training not stated"
        return [], [f"{giver} ({trained}) and {taker} ({want.tag}) fit, but were not trained together"]
    return [], []


def _differs(have: Any, want: Any) -> bool:
    if have is None or want is None:
        return False
    if isinstance(have, float) and isinstance(want, float):
        return abs(have - want) > 1e-6 * max(abs(have), abs(want))
    return bool(have != want)


def describe(port: Port, fields: list[str] | None = None) -> str:
    """A port in words: "512-dim hidden at 12.5 Hz"."""
    show = fields or ["dim", "rate_hz", "layout", "token"]
    words = [f"{port.dim}-dim"] if port.dim is not None and "dim" in show else []
    words.append(_UNITS.get(port.kind, port.kind))
    if port.rate_hz is not None and "rate_hz" in show:
        words.append(f"at {port.rate_hz:g} Hz")
    if port.layout is not None and "layout" in show:
        words.append(f"laid out {port.layout}")
    if port.token is not None and "token" in show:
        words.append(f"with placeholder {port.token}")
    return " ".join(words)

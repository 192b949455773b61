"""What the operator sets in environment variables, read with errors that name the variable."""

from __future__ import annotations

import math
import os
from typing import overload

from .errors import OptionError


@overload
def positive(variable: str, usual: float, example: float | None = None) -> float: ...
@overload
def positive(variable: str, usual: None, example: float) -> float | None: ...
def positive(variable: str, usual: float | None, example: float | None = None) -> float | None:
    """A number above 0; `usual` where the variable is not set.

    example: what the error suggests; `usual` by default.

    Raises: OptionError for anything else.
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return usual
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        better = example if usual is None else usual
        raise OptionError(f"{variable} is {text!r}, no positive number.", f"Unset it, or set it to {better:g}.")
    return value


def names(variable: str) -> list[str]:
    """Names with commas between them; none where the variable is not set."""
    return [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]

"""What the operator sets in environment variables, read with errors that name the variable.

A Space brings its settings in a file, `space.env` beside its app.py: a file, not variables of the Space, so that it is
there however the folder got to the Hub, and in a duplicate.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import overload

from .errors import OptionError

DEFAULT_STACK = "nano"
SPACE_FILE = "space.env"


@overload
def number(
    variable: str, default: float, *, integer: bool = False, zero: bool = False, example: float | None = None
) -> float: ...
@overload
def number(
    variable: str, default: None, *, integer: bool = False, zero: bool = False, example: float
) -> float | None: ...
def number(
    variable: str,
    default: float | None,
    *,
    integer: bool = False,
    zero: bool = False,
    example: float | None = None,
) -> float | None:
    """A number above 0; `default` where the variable is not set.

    Args:
        integer: only whole numbers are good.
        zero: 0 is good, too.
        example: what the error suggests; `default` unless given.

    Raises: OptionError for anything else.
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if (0 < value < math.inf or (zero and value == 0)) and not (integer and value % 1):
        return value
    kind = ("" if zero else "positive ") + ("whole " if integer else "") + "number" + (" from 0 up" if zero else "")
    suggested = default if example is None else example
    raise OptionError(f"{variable} is {text!r}, no {kind}.", f"Unset it, or set it to {suggested:g}.")


def names(variable: str) -> list[str]:
    """Names with commas between them; none where the variable is not set."""
    return [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]


def default_stack() -> str:
    """The stack to start with when none is asked for: CANARY_HUB_STACK, else nano (instant, offline)."""
    return os.environ.get("CANARY_HUB_STACK") or DEFAULT_STACK


def default_plugins_dir() -> Path | None:
    """`plugins/` beside app.py in a checkout; None when installed without one, or on a Space."""
    if os.environ.get("CANARY_HUB_PLUGINS_DIR"):
        return Path(os.environ["CANARY_HUB_PLUGINS_DIR"])
    if os.environ.get("SPACE_ID"):
        return None
    root = Path(__file__).resolve().parents[1]
    return root / "plugins" if (root / "app.py").is_file() and (root / "plugins").is_dir() else None


def cache_folder(name: str) -> Path:
    """The folder `name` for what is computed once and kept, such as "bench": under CANARY_HUB_CACHE, else under
    ~/.cache/canary-hub."""
    where = os.environ.get("CANARY_HUB_CACHE")
    return (Path(where) if where else Path.home() / ".cache" / "canary-hub") / name


def read_settings(folder: Path) -> None:
    """Put the lines NAME=VALUE of the folder's space.env into the environment; what is set there already wins.

    A folder without the file has no settings. Raises: OptionError for a line that is no setting.
    """
    file = folder / SPACE_FILE
    if not file.is_file():
        return
    for line in file.read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, found, value = line.partition("=")
            if not found or not name.isidentifier():
                raise OptionError(
                    f"{SPACE_FILE} has the line {line!r}.", "A setting is NAME=VALUE, a comment begins with #."
                )
            os.environ.setdefault(name, value.strip())

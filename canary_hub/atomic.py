"""Files that are read again: written beside their place, then renamed, so that a reader never meets half a one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import HubError


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A path to write to instead of `path`, which becomes `path` when the block ends without an error.

    Its folder is made where it is missing. A kill leaves a hidden `.NAME.PID.part` behind, which nothing reads.
    Raises: OSError.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    """Write `content` as UTF-8 with its line ends as they are; the file is the old one or the whole new one.

    Raises: OSError.
    """
    with beside(path) as part:
        part.write_text(content, "utf-8", newline="")


def save(path: Path, content: str) -> None:
    """Write what a user asked for, as `write_text` does. Raises: HubError."""
    try:
        write_text(path, content)
    except OSError as error:
        reason = error.strerror or error
        raise HubError(f"{os.fspath(path)!r} cannot be written: {reason}.", "Choose another place.") from error

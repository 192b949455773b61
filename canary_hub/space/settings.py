"""`space.env`: the settings a Space starts with, beside its app.py.

A file, not variables of the Space: it is there however the folder got to the Hub, and in a duplicate.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import OptionError

FILE = "space.env"


def read_settings(folder: Path) -> None:
    """Put the lines NAME=VALUE of the folder's space.env into the environment; what is set there already wins.

    A folder without the file has no settings. Raises: OptionError for a line that is no setting.
    """
    file = folder / FILE
    if not file.is_file():
        return
    for line in file.read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, found, value = line.partition("=")
            if not found or not name.isidentifier():
                raise OptionError(f"{FILE} has the line {line!r}.", "A setting is NAME=VALUE, a comment begins with #.")
            os.environ.setdefault(name, value.strip())

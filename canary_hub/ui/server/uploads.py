"""Where the page keeps uploads and downloads, and that they are deleted in time: after a kill and a restart, too."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ...errors import HubError


def own_folder() -> Path:
    """The folder for uploads: GRADIO_TEMP_DIR, else one for this user alone, which GRADIO_TEMP_DIR then names.

    gradio's own default is shared with every other gradio page on the machine, so nobody may clear it.
    Raises: HubError where there is no place for it.
    """
    try:
        if not os.environ.get("GRADIO_TEMP_DIR"):
            user = os.getuid() if hasattr(os, "getuid") else 0
            folder = Path(tempfile.gettempdir()) / f"canary-hub-{user}"
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != user):
                folder = Path(tempfile.mkdtemp(prefix="canary-hub-"))  # somebody else took the name
            os.environ["GRADIO_TEMP_DIR"] = str(folder)
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HubError(
            f"There is no folder for uploads: {error}.", "Set GRADIO_TEMP_DIR or TMPDIR to one that can be written."
        ) from error
    return folder


def delete_old(folder: Path, seconds: float, now: float) -> int:
    """Delete the files in a folder that are older, and empty folders; how many files.

    The age is by ctime, as gradio's: a copy keeps its original's mtime.
    """
    count = 0
    for root, _, names in os.walk(folder, topdown=False):
        for path in (Path(root) / name for name in names):
            try:
                if path.lstat().st_ctime < now - seconds:
                    path.unlink()
                    count += 1
            except OSError:  # another process was faster, or it is in use (Windows)
                continue
        if Path(root) != folder and os.stat(root).st_mtime < now - seconds:
            try:
                os.rmdir(root)
            except OSError:  # not empty
                continue
    return count


def keep_deleting(folder: Path, seconds: float, every: float, now: Callable[[], float] = time.time) -> None:
    """`delete_old` now and every so many seconds, in the background.

    gradio's own `delete_cache` knows only the files of this process, and forgets those of one that was killed.
    """

    def work() -> None:
        while True:
            try:
                delete_old(folder, seconds, now())
            except OSError as error:
                logging.getLogger(__name__).warning("old uploads could not be deleted: %s", error)
            time.sleep(every)

    threading.Thread(target=work, daemon=True, name="canary-hub-uploads").start()

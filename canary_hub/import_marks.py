"""Which plugin ended the whole process while it was imported: the next start leaves it out and says so.

`os._exit` and a crash of native code cannot be caught. So a mark lies in the cache folder while a plugin is imported,
locked by the process that imports it; a mark that nobody holds was left by one that died. Not on Windows, and not
where the folder cannot be written.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def folder() -> Path:
    """Where marks lie: in CANARY_HUB_CACHE, else ~/.cache/canary-hub. Raises: RuntimeError where there is no home."""
    where = os.environ.get("CANARY_HUB_CACHE")
    return (Path(where) if where else Path.home() / ".cache" / "canary-hub") / "importing"


@contextmanager
def importing(name: str, origin: str, version: str) -> Iterator[Path | None]:
    """The mark that an earlier process left when it died of importing this very plugin; None where there is none,
    and then the plugin is marked within the block.

    Args:
        origin: its file or folder, or the name of its distribution; a changed file counts as another plugin.
    """
    mark = None
    try:
        digest = hashlib.sha256(f"{name} {origin}".encode()).hexdigest()[:8]
        path = folder() / f"{digest}-{''.join(c if c.isalnum() else '_' for c in name)[:60]}"
        mark = _locked(path)
        stamp = f"{version} {_changed(Path(origin))}".encode()
        left = os.pread(mark, 200, 0) == stamp if mark is not None else False
        if mark is not None and not left:
            os.ftruncate(mark, 0)
            os.pwrite(mark, stamp, 0)
    except (OSError, RuntimeError):  # no home, or not to be written
        left = False
    try:
        yield path if left else None
    finally:
        if mark is not None:
            if not left:
                path.unlink(missing_ok=True)
            os.close(mark)


def _locked(path: Path) -> int | None:
    """The file, opened and locked; None where another process holds it."""
    if sys.platform == "win32":
        return None
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_ino == os.stat(path).st_ino:  # else its holder has just removed it
            return file
    except OSError:
        pass
    os.close(file)
    return None


def _changed(origin: Path) -> int:
    """When the newest of its Python files was changed, in nanoseconds; 0 for the name of a distribution."""
    files = origin.rglob("*.py") if origin.is_dir() else [origin]
    return max((file.stat().st_mtime_ns for file in files if file.is_file()), default=0)

"""Results that visitors chose to share: one folder each, found by an id that nobody can guess.

    <folder>/<id>/about.json     what it is, when it goes, and the hash of the key that deletes it
    <folder>/<id>/result.json    the transcript with its trace, or the comparison
    <folder>/<id>/audio.flac     only where the visitor chose to share it

With a repository the folder is also kept in a private data set on the Hugging Face Hub (`HubCopy`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, TypeAdapter

from ..compare.result import Comparison
from ..compare.result import from_json as comparison_from_json
from ..compare.result import to_json as comparison_to_json
from ..errors import HubError
from ..run.result import Result
from ..settings import cache_folder, number
from .hub_copy import HubCopy

if TYPE_CHECKING:
    from ..audio.waveform import Waveform

VERSION = 1
UNFINISHED_SECONDS = 3600.0
"""What is unfinished and older than this was left by a process that was killed."""
_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_ROOT = "results"
_NOT_FOUND = HubError(
    "There is no shared result under this link (any more).", "It may have expired or been deleted; ask for a new one."
)


@dataclass(frozen=True)
class Saved:
    """A new shared result: `id` belongs into the link, `key` deletes it and is shown once."""

    id: str
    key: str
    expires: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class Opened:
    """A shared result as it was saved. `audio` is a FLAC file, or None where none was shared."""

    result: Result | Comparison
    created: float
    expires: float
    audio: Path | None


_Time = Annotated[float, Field(ge=0, lt=1e11)]
"""Seconds since 1970, of years that a date can be written of."""


@dataclass(frozen=True)
class _About:
    """about.json; `key` is the SHA-256 of the key that deletes the result."""

    version: int
    kind: Literal["comparison", "transcript"]
    created: _Time
    expires: _Time
    key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass
class SharedResults:
    """The shared results in a folder.

    days: how long one is kept. max_bytes: of one result with its audio. total_bytes: of all of them.
    repo: a data set on the Hub ("user/name") that also keeps them.
    """

    folder: Path
    days: float = 30.0
    max_bytes: int = 25 << 20
    total_bytes: int = 5000 << 20
    repo: str | None = None
    now: Callable[[], float] = time.time
    _copy: HubCopy | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _copies_cleared: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.repo:
            self._copy = HubCopy(self.repo, self.folder, f"{_ROOT}/*/*")

    @classmethod
    def from_env(cls) -> SharedResults | None:
        """As the settings CANARY_HUB_SHARE_DIR, CANARY_HUB_SHARE_DAYS, CANARY_HUB_SHARE_MB,
        CANARY_HUB_SHARE_TOTAL_MB and CANARY_HUB_SHARE_REPO say; None where 0 days switch sharing off.

        Raises: OptionError for a value that is no number.
        """
        days = min(number("CANARY_HUB_SHARE_DAYS", 30.0, zero=True), 1e6)
        if not days:
            return None
        folder = os.environ.get("CANARY_HUB_SHARE_DIR") or cache_folder("shared")
        return cls(
            Path(folder),
            days=days,
            max_bytes=int(number("CANARY_HUB_SHARE_MB", 25.0, zero=True) * 2**20),
            total_bytes=int(number("CANARY_HUB_SHARE_TOTAL_MB", 5000.0, zero=True) * 2**20),
            repo=os.environ.get("CANARY_HUB_SHARE_REPO") or None,
        )

    def save(self, result: Result | Comparison, audio: Waveform | None = None) -> Saved:
        """Keep a result, with its audio only where that is given.

        The audio is written anew, as 16-bit FLAC: names and other tags of the visitor's file stay behind.
        Raises: HubError when it is too large, there is no room for it, or the folder cannot be written.
        """
        self.remove_expired()
        id, key = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        kind: Literal["comparison", "transcript"] = "comparison" if isinstance(result, Comparison) else "transcript"
        now = self.now()
        about = {
            "version": VERSION,
            "kind": kind,
            "created": now,
            "expires": now + self.days * 86400,
            "key": hashlib.sha256(key.encode()).hexdigest(),
        }
        document = comparison_to_json([result]) if isinstance(result, Comparison) else _results().dump_json(result)
        draft = self._unfinished / id
        try:
            draft.mkdir(parents=True)
            self._root.mkdir(exist_ok=True)
            try:
                (draft / "about.json").write_text(json.dumps(about), "utf-8")
                (draft / "result.json").write_bytes(document.encode() if isinstance(document, str) else document)
                if audio is not None:
                    import soundfile

                    soundfile.write(draft / "audio.flac", audio.samples.clip(-1, 1), audio.rate, subtype="PCM_16")
                size = _size(draft)
                if size > self.max_bytes:
                    raise HubError(
                        f"This result takes {size / 2**20:.1f} MB; it may take {self.max_bytes / 2**20:.0f} MB.",
                        "Share it without the audio or the details, or a shorter clip.",
                    )
                with self._commits():
                    if _size(self._root) + size > self.total_bytes:
                        raise HubError(
                            "This page has no room for more shared results.",
                            f"Download it instead; room comes free as older ones expire, within {self.days:g} days.",
                        )
                    draft.rename(self._root / id)
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
        except (OSError, RuntimeError) as error:  # soundfile's errors are RuntimeErrors
            raise HubError(
                f"The result cannot be kept: {getattr(error, 'strerror', None) or error}.",
                "Try again later, or download it instead.",
            ) from error
        return Saved(id, key, now + self.days * 86400)

    def open(self, id: str) -> Opened:
        """The result with that id; no model runs. Raises: HubError when there is none, or it has expired."""
        folder, about = self._found(id)
        try:
            content = (folder / "result.json").read_bytes()
            result: Result | Comparison
            if about.kind == "comparison":
                result, *_ = comparison_from_json(content)
            else:
                result = _results().validate_json(content)
        except (OSError, ValueError) as error:  # pydantic's errors are ValueErrors
            raise HubError("This shared result is damaged.", "Ask for a new one.") from error
        audio = folder / "audio.flac"
        return Opened(result, about.created, about.expires, audio if audio.exists() else None)

    def delete(self, id: str, key: str) -> None:
        """Remove a result for good. Raises: HubError when there is none, or the key is another one."""
        _, about = self._found(id)
        digest = hashlib.sha256(key.strip().encode("utf-8", "replace")).hexdigest()
        if not hmac.compare_digest(digest, about.key):
            raise HubError("This key does not belong to this result.", "Use the key that was shown when it was shared.")
        self._remove(id)

    def remove_expired(self) -> int:
        """Remove what has expired, and what a kill left half-written; how many results there were."""
        for left in self._unfinished.glob("*"):
            with suppress(FileNotFoundError):
                if left.stat().st_mtime < self.now() - UNFINISHED_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
        expired = []
        for folder in self._root.glob("*"):
            about = _about(folder / "about.json")
            if about is None or about.expires < self.now():
                expired.append(folder.name)
        for id in expired:
            try:
                self._remove(id)
            except HubError as error:  # a copy is left: whoever shares something now has nothing to do with it
                self._copies_cleared = False
                logging.getLogger(__name__).warning("an expired result: %s", error)
        return len(expired)

    def keep_removing(self, every: float = 3600.0) -> None:
        """Remove what has expired now and every so many seconds, in the background, whether anybody comes or not."""

        def work() -> None:
            while True:
                try:
                    if not self._copies_cleared:
                        self._remove_expired_copies()
                        self._copies_cleared = True  # from now on this process knows of all itself
                    self.remove_expired()
                except Exception as error:  # no room, no network: the next time may go well
                    logging.getLogger(__name__).warning("expired results could not be removed: %s", error)
                time.sleep(every)

        threading.Thread(target=work, daemon=True, name="canary-hub-expiry").start()

    def push(self) -> None:
        """Commit what is new to the data set now, instead of within minutes; nothing to do without one."""
        if self._copy is not None:
            self._copy.push()

    @property
    def _unfinished(self) -> Path:
        """What is being written, fetched or removed; it is never committed."""
        return self.folder / "unfinished"

    @property
    def _root(self) -> Path:
        return self.folder / _ROOT

    def _found(self, id: str) -> tuple[Path, _About]:
        if not _ID.fullmatch(id):
            raise _NOT_FOUND
        folder = self._root / id
        if self._copy is not None and not folder.exists():
            self._fetch(self._copy, id)
        about = _about(folder / "about.json")
        if about is None or about.expires < self.now():
            raise _NOT_FOUND
        return folder, about

    def _remove(self, id: str) -> None:
        with self._commits():
            self._unfinished.mkdir(parents=True, exist_ok=True)
            removed = self._new_folder()
            with suppress(FileNotFoundError):  # only the copy is there
                (self._root / id).rename(removed)  # whole or not at all: a half one would never be found again
            shutil.rmtree(removed, ignore_errors=True)
            if self._copy is not None:
                try:
                    self._copy.delete(f"{_ROOT}/{id}")
                except Exception as error:
                    raise HubError(
                        "The result was removed here, but not yet from the data set that keeps a copy.",
                        "Try again in a few minutes.",
                    ) from error

    def _fetch(self, copy: HubCopy, id: str) -> None:
        """Take a result that an earlier start of this page has saved from the data set."""
        try:
            with copy.fetched(f"{_ROOT}/{id}/*", self._new_folder()) as fetched, self._commits():
                if (fetched / _ROOT / id).exists() and not (self._root / id).exists():
                    self._root.mkdir(parents=True, exist_ok=True)
                    (fetched / _ROOT / id).rename(self._root / id)
        except Exception as error:
            raise HubError("Shared results cannot be reached at the moment.", "Try again in a few minutes.") from error

    def _remove_expired_copies(self) -> None:
        """Remove from the data set what has expired while no page ran."""
        if self._copy is None:
            return
        with self._copy.fetched(f"{_ROOT}/*/about.json", self._new_folder()) as fetched:
            for path in fetched.glob(f"{_ROOT}/*/about.json"):
                about = _about(path)
                if about is None or about.expires < self.now():
                    self._remove(path.parent.name)

    def _commits(self) -> threading.Lock:
        """Held while files change, so that no half a result is committed."""
        return self._lock if self._copy is None else self._copy.scheduler.lock

    def _new_folder(self) -> Path:
        """The path of a folder for one piece of work, in which a half result is not taken for a whole one."""
        return self._unfinished / secrets.token_urlsafe(16)


def _about(path: Path) -> _About | None:
    """What about.json says; None where it is not there, or damaged."""
    try:
        about = _abouts().validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return about if about.version == VERSION else None


def _size(folder: Path) -> int:
    """Of all files in it, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@cache
def _abouts() -> TypeAdapter[_About]:
    return TypeAdapter(_About)


@cache
def _results() -> TypeAdapter[Result]:
    return TypeAdapter(Result)

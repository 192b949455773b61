"""Transcripts on disk, one JSON line each: appended batch by batch, read back after an interruption."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import HubError
from .utterance import Utterance


@dataclass(frozen=True)
class UtteranceResult:
    """What became of one utterance.

    index, id, reference: the utterance's.
    hypothesis: the transcript; None where `error` says why there is none.
    duration, seconds: of audio, and of work (decoding the audio included).
    note: why the transcript is doubtful (cut off, repeated itself, silence), else None.
    """

    index: int
    id: str
    reference: str
    hypothesis: str | None
    duration: float
    seconds: float
    note: str | None = None
    error: str | None = None


def superseded(path: Path, head: dict[str, Any]) -> list[str]:
    """Says of each earlier results file of the same lane what differs from `head`, so that it is not used."""
    found = []
    for other in sorted(path.parent.glob(path.name[: -len("12345678.jsonl")] + "????????.jsonl")):
        with other.open("rb") as file:
            try:
                old = json.loads(file.readline())
            except ValueError:
                continue
        changed = [key for key in head if old.get(key) != head[key]]
        if other != path and changed:
            found.append(f"{other} is not used: {', '.join(changed)} changed")
    return found


class ResultsFile:
    """The rows of one stack; a torn last line, which a crash leaves behind, is cut off when the file is opened.

    The first line holds what the rows depend on (see `identity`). The file is locked while it is open, where the
    system can (not on Windows).
    Raises: HubError for a file that is in use, damaged or cannot be written.
    """

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self.path = path
        self.rows: dict[int, UtteranceResult] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
            self._lock()
            self._read()
            if not self._file.tell():
                self._write([head])
        except OSError as error:
            raise HubError(f"{str(path)!r} cannot be written: {error.strerror}.", "Choose another --out.") from error

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def has(self, utterance: Utterance) -> bool:
        """Whether its transcript is there; one that failed is tried again.

        Raises: HubError when the rows are of another manifest.
        """
        row = self.rows.get(utterance.index)
        if row is not None and (row.id, row.reference) != (utterance.id, utterance.reference):
            raise HubError(
                f"{str(self.path)!r} holds the results of another manifest: its utterance {row.index} is {row.id} "
                f"({row.reference[:60]!r}), this one's is {utterance.id} ({utterance.reference[:60]!r}).",
                "Give a new --out, or the manifest as it was.",
            )
        return row is not None and row.error is None

    def append(self, rows: Iterable[UtteranceResult]) -> None:
        """Add rows; when this returns they are on the disk."""
        rows = list(rows)
        self._write([asdict(row) for row in rows])
        self.rows.update({row.index: row for row in rows})

    def _write(self, lines: list[dict[str, Any]]) -> None:
        self._file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        self._file.truncate(whole)
        self._file.seek(whole)
        for number, line in enumerate(content[:whole].splitlines()[1:], 2):
            try:
                row = UtteranceResult(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise HubError(
                    f"{str(self.path)!r} is damaged in line {number}.", "Delete that line, or give a new --out."
                ) from error
            self.rows[row.index] = row

    def _lock(self) -> None:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise HubError(
                    f"{str(self.path)!r} is being written by another evaluation.", "Wait for it, or give another --out."
                ) from error

"""What an interrupted `canary-hub transcribe` had finished, kept in hidden files beside its output."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import HubError
from ..run.result import Result, SegmentResult


class Partial:
    """The finished segments of one audio file: `.STEM.partial`, JSON lines.

    The first line holds what the others depend on: the audio file by size and time, and the stack (see
    `evaluate.identity`). Then a line per segment, and one for the whole file when it is finished. Nothing is
    written before the first segment is finished. A torn last line, which a kill leaves behind, is not read.

    segments: those finished by an earlier run, by their index. result: of the whole file, if it had got so far.

    Args:
        audio: the audio file.
        output: the transcript's path, with whatever suffix: a run in another format goes on from the same file.
        stack: what the stack's transcripts depend on.
        resume: go on from what is there, if it is of this audio and stack; else it is written anew.
    """

    def __init__(self, audio: Path, output: Path, stack: Mapping[str, Any], resume: bool) -> None:
        self.path = output.with_name(f".{output.stem}.partial")
        self.segments: dict[int, SegmentResult] = {}
        self.result: Result | None = None
        try:
            status = audio.stat()
            self._head = {"bytes": status.st_size, "modified": status.st_mtime_ns, **stack}
        except (OSError, ValueError):  # no such file: reading its audio raises that
            self._head = {}
        self._whole = self._read()
        self.left_over = self._whole > 0
        """Whether an earlier run on this audio and stack left something behind."""
        if not resume:
            self._whole, self.segments, self.result = 0, {}, None

    def add(self, index: int, segment: SegmentResult) -> None:
        """Keep a finished segment. Raises: HubError."""
        self._append({"segment": index, "result": asdict(segment)})

    def finish(self, result: Result) -> None:
        """Keep what is known of the whole file. Raises: HubError."""
        kept = ("file", "duration", "stack", "seconds", "warnings")
        self._append({name: getattr(result, name) for name in kept})

    def delete(self) -> None:
        """The run has come to its end: nothing is left to resume."""
        self.path.unlink(missing_ok=True)

    def _append(self, line: dict[str, Any]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("r+b" if self._whole else "wb") as file:
                file.truncate(self._whole)  # what an earlier run left torn
                file.seek(self._whole)
                for row in (line,) if self._whole else (self._head, line):
                    file.write(json.dumps(row).encode() + b"\n")
                self._whole = file.tell()
        except OSError as error:
            raise HubError(f"{os.fspath(self.path)!r} cannot be written: {error}.", "Choose another place.") from error

    def _read(self) -> int:
        """Take what belongs to this audio and stack; how many bytes of the file that is."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return 0
        whole = content[: content.rfind(b"\n") + 1]
        try:
            head, *lines = map(json.loads, whole.splitlines())
            if head != json.loads(json.dumps(self._head)):
                return 0
            for line in lines:
                if "segment" in line:
                    self.segments[line["segment"]] = SegmentResult(**line["result"])
                else:
                    segments = [self.segments[i] for i in range(len(self.segments))]
                    self.result = Result(**{**line, "segments": segments, "warnings": tuple(line["warnings"])})
        except (ValueError, TypeError, KeyError):  # of another version, or damaged
            self.segments, self.result = {}, None
            return 0
        return len(whole)

"""Test sets on disk: JSON lines, tables, and folders of audio with texts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ..audio.waveform import printable
from ..errors import HubError
from .utterance import AUDIO_FIELDS, TEXT_FIELDS, Manifest, Utterance, first_field, header_seconds, one_line

LONGEST = 1e9
"""Seconds; what begins or lasts longer is a mistake, and as a number of samples no integer that libsndfile takes."""

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a")


def open_manifest(where: str | Path, limit: int | None = None) -> Manifest:
    """A test set by its address; with `limit` only its first utterances.

    - a file of JSON lines: {"audio_filepath": ..., "text": ..., "duration": ..., "offset": ...} as NeMo has it, the
      last two optional. With an offset the utterance is that part of the file, else it is the whole file;
    - a .csv or .tsv file with a header and the same names as columns (others: `AUDIO_FIELDS`, `TEXT_FIELDS`);
    - a folder of audio files, at any depth, each with its text in a file of the same name that ends in .txt;
    - "hf:name/config/split", a Hugging Face data set, streamed.

    Paths are relative to the manifest. Line breaks and runs of spaces in references become single spaces.
    Raises: HubError that names the line or the files at fault; an audio file that is missing is found out later.
    """
    if str(where).startswith("hf:"):
        from .hf_dataset import open_dataset

        return open_dataset(str(where), limit)
    path = Path(where)
    if path.is_dir():
        utterances = _folder(path)
    elif path.suffix.lower() in (".csv", ".tsv"):
        utterances = (_utterance(i, row, path, n) for i, (n, row) in enumerate(_table(path)))
    else:
        utterances = (_utterance(i, row, path, n) for i, (n, row) in enumerate(_json_lines(path)))
    every = list(islice(utterances, limit))
    if not every:
        raise HubError(f"{str(path)!r} names no utterance.", "`canary-hub eval --help` shows what it may look like.")
    durations = [utterance.duration for utterance in every]
    seconds = sum(duration or 0.0 for duration in durations)
    return Manifest(path.name or str(path), lambda: iter([every]), len(every), seconds or None)


def _utterance(index: int, row: Mapping[str, Any], manifest: Path, line: int) -> Utterance:
    where = f"{manifest.name}, line {line}"
    audio, text = first_field(row, AUDIO_FIELDS), first_field(row, TEXT_FIELDS)
    for name, choices in ((audio, AUDIO_FIELDS), (text, TEXT_FIELDS)):
        if name is None:
            raise HubError(
                f"{where} has none of {', '.join(choices)}.", f"It has {', '.join(map(str, row)) or 'none'}."
            )
        if not isinstance(row[name], str):
            raise HubError(f"{where}: {name} is {row[name]!r}, no text.", "Write it as a string.")
    offset, duration = (_seconds(row.get(name), f"{where}: {name}") for name in ("offset", "duration"))
    path = manifest.parent / row[str(audio)]
    if duration is None and offset is None:
        duration = header_seconds(path)
    part = "" if offset is None else f"@{offset:g}" + ("" if duration is None else f"+{duration:g}")
    return Utterance(index, printable(row[str(audio)]) + part, one_line(row[str(text)]), path, duration, offset)


def _seconds(value: Any, what: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds < LONGEST:
        raise HubError(f"{what} is {value!r}, no number of seconds.", "Correct it, or leave it out.")
    return seconds


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_read(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise HubError(
                f"{path.name}, line {number} is no JSON object: {line.strip()[:60]!r}.",
                'Each line holds one, such as {"audio_filepath": "a.wav", "text": "what is said"}.',
            )
        yield number, row


def _table(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    text = io.StringIO(_read(path))
    if path.suffix.lower() == ".tsv":  # quotes in these, such as Common Voice's, are the text's own
        rows = csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        rows = csv.DictReader(text)
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise HubError(f"{path.name}, line {rows.line_num}: {error}.", "Export the table as CSV again.") from error


def _folder(path: Path) -> Iterator[Utterance]:
    audio = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
    silent = [file.relative_to(path).as_posix() for file in audio if not file.with_suffix(".txt").is_file()]
    if silent:
        raise HubError(
            f"{len(silent)} of {len(audio)} audio files in {str(path)!r} have no text: {', '.join(silent[:5])}"
            f"{', ...' if len(silent) > 5 else ''}.",
            f"Put what is said into {Path(silent[0]).with_suffix('.txt')}, and so on, or move them away.",
        )
    for index, file in enumerate(audio):
        reference = one_line(_read(file.with_suffix(".txt")))
        name = printable(file.relative_to(path).as_posix())
        yield Utterance(index, name, reference, file, header_seconds(file))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise HubError(
            f"There is no manifest {str(path)!r}.", "Give a file, a folder or hf:name/config/split."
        ) from None
    except OSError as error:
        raise HubError(f"{str(path)!r} cannot be read: {error.strerror}.", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise HubError(f"{str(path)!r} is not UTF-8 text (byte {error.start}).", "Save it as UTF-8.") from error

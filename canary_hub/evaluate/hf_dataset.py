"""Hugging Face data sets as test sets: streamed, the audio decoded by canary_hub itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..compare.scoring import normalised
from ..errors import HubError
from .utterance import AUDIO_FIELDS, TEXT_FIELDS, Manifest, Utterance, first_field, header_seconds, one_line

WINDOW = 256
"""Rows read ahead, so that batches can be made of like lengths: some 100 MB of compressed speech."""


def open_dataset(address: str, limit: int | None = None) -> Manifest:
    """The test set behind "hf:name/config/split"; `name` may be a local folder of parquet or audio files.

    As on the Open ASR Leaderboard (normalizer/data_utils.py, is_target_text_in_range) rows without a text after
    normalising, or with "ignore time segment in scoring", are left out.
    Raises: HubError without the extra, for a wrong address, or when the data set cannot be reached.
    """
    try:
        import datasets
    except ImportError as error:
        raise HubError(
            "Hugging Face data sets need the package datasets.", 'Install it: pip install "canary-hub[eval]"'
        ) from error
    name, *parts = address.removeprefix("hf:").rsplit("/", 2)
    if len(parts) < 2 or not all((name, *parts)):
        raise HubError(
            f"{address!r} does not name data set, config and split.",
            "Write hf:name/config/split, such as hf:openslr/librispeech_asr/clean/test; a config is often 'default'.",
        )
    config, split = parts
    try:
        rows = datasets.load_dataset(name, config, split=split, streaming=True)
        columns = rows.features or next(iter(rows))
        audio, text = first_field(columns, AUDIO_FIELDS), first_field(columns, TEXT_FIELDS)
        if audio is not None:
            rows = rows.cast_column(audio, datasets.Audio(decode=False))
        known = (rows.info.splits or {}).get(split)
    except Exception as error:  # every library below datasets has its own
        raise _unreachable(address, error) from error
    if audio is None or text is None:
        raise HubError(
            f"{address} has the columns {', '.join(columns)}.",
            f"It needs one of {', '.join(AUDIO_FIELDS)} and one of {', '.join(TEXT_FIELDS)}.",
        )
    sizes = [size for size in (limit, known.num_examples if known else None) if size]
    return Manifest(address, lambda: _windows(address, rows, audio, text, limit), min(sizes, default=None))


def _windows(address: str, rows: Any, audio: str, text: str, limit: int | None) -> Iterator[list[Utterance]]:
    utterances = islice(_utterances(address, rows, audio, text), limit)
    while window := list(islice(utterances, WINDOW)):
        yield window


def _utterances(address: str, rows: Any, audio: str, text: str) -> Iterator[Utterance]:
    stream = iter(rows)
    index = -1
    while True:
        try:
            row = next(stream)
        except StopIteration:
            return
        except Exception as error:
            raise _unreachable(f"{address}, row {index + 1}", error) from error
        index += 1
        reference = one_line(row[text] or "")
        if normalised(reference).strip() in ("", "ignore time segment in scoring"):
            continue
        content, path = row[audio]["bytes"], row[audio]["path"]
        name = str(row.get("id") or (path and Path(path).name) or index)
        source = content if content is not None else Path(path)
        yield Utterance(index, name, reference, source, header_seconds(source))


def _unreachable(what: str, error: Exception) -> HubError:
    message = (str(error).strip() or type(error).__name__).splitlines()[0]
    return HubError(
        f"{what} cannot be read: {message}",
        "Check name, config and split on huggingface.co, the connection, and `hf auth login` for a gated one.",
    )

"""The headers of safetensors files: names, dtypes, shapes. No tensor is read, however large the file."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import WeightsError
from .tensors import PICKLE_SUFFIXES


@dataclass(frozen=True)
class Tensor:
    """One tensor as its file's header describes it. dtype: as safetensors writes it ("BF16", "I64")."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file; the dtype's first number is its bits, and BOOL takes eight."""
        bits = re.search(r"\d+", self.dtype)
        return self.numbers * int(bits[0] if bits else 8) // 8


@dataclass(frozen=True)
class File:
    """One file: its size on disk, header included, and how many tensors it holds."""

    name: str
    nbytes: int
    tensors: int


def read_headers(where: Path) -> tuple[tuple[File, ...], tuple[Tensor, ...]]:
    """The files and tensors of a safetensors file, of shards by their index, or of all such files of a folder.

    Raises: WeightsError when there are none, a shard is missing, a tensor that the index lists is absent or
        stands in two files, or a file is damaged or a pickle.
    """
    paths, listed = _files(where)
    files: list[File] = []
    tensors: dict[str, Tensor] = {}
    for path in paths:
        here = _read(path)
        twice = sorted(tensors.keys() & {tensor.name for tensor in here})
        if twice:
            raise WeightsError(f"{twice[0]!r} stands in several files of {str(where)!r}.", "Give one of the files.")
        tensors.update((tensor.name, tensor) for tensor in here)
        files.append(File(path.name, path.stat().st_size, len(here)))
    if absent := sorted(listed - set(tensors)):
        raise WeightsError(f"The shards lack {len(absent)} tensors of the index, such as {absent[0]!r}.", "Fetch them.")
    return tuple(files), tuple(tensors.values())


def _files(where: Path) -> tuple[list[Path], set[str]]:
    """The safetensors files, and the tensor names that an index promises."""
    if where.is_dir():
        index = next(iter(sorted(where.glob("*.safetensors.index.json"))), None)
        if index is None:
            found = sorted(where.glob("*.safetensors"))
            if not found:
                pickles = sorted(path.name for path in where.iterdir() if path.suffix in PICKLE_SUFFIXES)
                also = f", only {pickles[0]}, which can run code when read" if pickles else ""
                raise WeightsError(f"{str(where)!r} holds no safetensors file{also}.", "Give a safetensors file.")
            return found, set()
        where = index
    if not where.is_file():
        raise WeightsError(f"No file or folder {str(where)!r}.", "Give a safetensors file, or a folder with some.")
    if not where.name.endswith(".index.json"):
        return [where], set()
    try:
        weight_map = json.loads(where.read_text("utf-8"))["weight_map"]
        names = {str(name): str(file) for name, file in weight_map.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{str(where)!r} is no index of shards: {error!r}.", "Fetch it again.") from error
    return [where.parent / file for file in sorted(set(names.values()))], set(names)


def _read(path: Path) -> list[Tensor]:
    from safetensors import SafetensorError, safe_open

    if path.suffix in PICKLE_SUFFIXES:
        raise WeightsError(f"{str(path)!r} can run code when read and is not opened.", "Convert it to safetensors.")
    if not path.is_file():
        raise WeightsError(f"{path.name} is missing in {str(path.parent)!r}.", "Fetch the checkpoint again.")
    try:
        with safe_open(str(path), framework="np") as file:  # numpy alone: no torch for a header
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return [Tensor(name, part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()]
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{str(path)!r} is not a readable safetensors file: {error}.",
            "It is truncated, damaged or of another format.",
        ) from error

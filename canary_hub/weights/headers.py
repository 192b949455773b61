"""The headers of safetensors files: names, dtypes, shapes. No tensor is read, however large the file."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import WeightsError
from .tensors import PICKLE_SUFFIXES, TensorFiles


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
    files: list[File] = []
    tensors: dict[str, Tensor] = {}
    for source in _sources(where):
        opened = TensorFiles(source, framework="np")
        for path, names in opened.files.items():
            if twice := sorted(tensors.keys() & set(names)):
                raise WeightsError(f"{twice[0]!r} stands in several files of {str(where)!r}.", "Give one of the files.")
            tensors |= {name: Tensor(name, opened.dtype(name), opened[name]) for name in names}
            files.append(File(path.name, path.stat().st_size, len(names)))
    return tuple(files), tuple(tensors.values())


def _sources(where: Path) -> list[Path]:
    """The index of shards, or else the safetensors files."""
    if where.is_dir():
        indexes = sorted(where.glob("*.safetensors.index.json"))[:1]
        if sources := indexes or sorted(where.glob("*.safetensors")):
            return sources
        pickles = sorted(path.name for path in where.iterdir() if path.suffix in PICKLE_SUFFIXES)
        also = f", only {pickles[0]}, which can run code when read" if pickles else ""
        raise WeightsError(f"{str(where)!r} holds no safetensors file{also}.", "Give a safetensors file.")
    if not where.is_file():
        raise WeightsError(f"No file or folder {str(where)!r}.", "Give a safetensors file, or a folder with some.")
    if where.suffix in PICKLE_SUFFIXES:
        raise WeightsError(f"{str(where)!r} can run code when read and is not opened.", "Convert it to safetensors.")
    return [where]

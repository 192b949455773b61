"""From safetensors files into modules, every tensor accounted for.

Safetensors only: a pickle checkpoint can run code when it is read, so it is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError
from ..stages import Tensors

if TYPE_CHECKING:
    import torch

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".nemo", ".pkl")
FLOATS = ("F64", "F32", "BF16", "F16")
"""The dtypes weights may have in a file; batch norm's count of batches is an integer."""

MAX_JSON = 50_000_000
"""Bytes of the largest config or index that is read; published ones have up to a few million."""

MAX_NAMES = 6  # how many tensor names an error lists before it counts the rest


class TensorFiles(Mapping[str, tuple[int, ...]]):
    """The tensors of a safetensors file or of shards: name -> shape, and each as a mapped tensor.

    Opening reads the headers alone.

    files: the names in each file.

    Args:
        where: a file, an index of shards, or a folder with model.safetensors or model.safetensors.index.json.
        framework: "np" reads headers without torch, also of files that are larger than what may be mapped.

    Raises: WeightsError when there is no safetensors file, a shard is missing, a header is broken, or there are only
        pickles.
    """

    def __init__(self, where: Path, framework: str = "pt") -> None:
        from safetensors import SafetensorError, safe_open

        index = where / "model.safetensors.index.json" if where.is_dir() else where
        self.folder = index.parent
        listed = weight_map(index) if index.name.endswith(".index.json") and index.is_file() else {}
        single = "model.safetensors" if where.is_dir() else where.name
        self._where: dict[str, Any] = {}
        self.files: dict[Path, list[str]] = {}
        for name in sorted(set(listed.values())) or [single]:
            path = self.folder / name
            if not path.is_file():
                raise WeightsError(*self._nothing_there(name))
            try:
                shard = safe_open(str(path), framework=framework)
            except (SafetensorError, OSError) as error:
                raise WeightsError(
                    f"{str(path)!r} is not a readable safetensors file: {error}.",
                    "It is truncated or damaged, or of another format: fetch it again.",
                ) from error
            self.files[path] = shard.keys()  # type: ignore[no-untyped-call, unused-ignore]
            self._where.update(dict.fromkeys(self.files[path], shard))
        if gone := sorted(set(listed) - set(self._where)):
            raise WeightsError(f"The shards lack {_some(gone)}, which {index.name} lists.", "Fetch it again.")

    def _nothing_there(self, name: str) -> tuple[str, str]:
        pickles = [p.name for p in self.folder.iterdir() if p.suffix in PICKLE_SUFFIXES]
        if pickles:
            return (
                f"{str(self.folder)!r} holds {_some(sorted(pickles))} but no {name}.",
                "Pickle files can run code when read and are never opened: convert them to safetensors.",
            )
        return f"{name} is missing in {str(self.folder)!r}.", "Fetch the checkpoint again."

    def __getitem__(self, name: str) -> tuple[int, ...]:
        return tuple(self._where[name].get_slice(name).get_shape())

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def dtype(self, name: str) -> str:
        """The tensor's dtype as safetensors writes it, such as "BF16"."""
        return str(self._where[name].get_slice(name).get_dtype())

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor in the file's dtype; its memory is the mapped file, not a copy.

        Raises: WeightsError for one that is not there.
        """
        if name not in self._where:
            raise WeightsError(f"{str(self.folder)!r} holds no tensor {name}.", "Is this the right checkpoint?")
        tensor: torch.Tensor = self._where[name].get_tensor(name)
        return tensor


def check_names(files: Tensors, expected: Mapping[str, tuple[int, ...]], unused: Iterable[str] = ()) -> None:
    """Every tensor of the file is expected or known as unused, none is missing, every shape and dtype is right.

    Raises: WeightsError naming what is missing, unexpected, wrongly shaped or of another dtype, all at once.
    """
    known = set(unused)
    missing = sorted(set(expected) - set(files))
    extra = sorted(set(files) - set(expected) - known)
    reshaped = [
        f"{name} is {list(files[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in files and files[name] != tuple(shape)
    ]
    retyped = [
        f"{name} is {files.dtype(name)}"
        for name in expected
        if name in files and files.dtype(name) not in FLOATS and not name.endswith(".num_batches_tracked")
    ]
    problems = [
        f"{len(names)} {what}: {_some(names)}"
        for what, names in (
            ("missing", missing),
            ("unexpected", extra),
            ("wrongly shaped", reshaped),
            ("of a dtype that is not read", retyped),
        )
        if names
    ]
    if problems:
        raise WeightsError(
            f"The tensors in {str(files.folder)!r} are not those its config describes. {'; '.join(problems)}.",
            "The checkpoint and its config.json do not belong together, or the file was altered.",
        )


def assign(
    module: torch.nn.Module,
    source: Callable[[str], torch.Tensor],
    dtype: torch.dtype,
    device: str,
) -> None:
    """Fill a module that was built on the meta device, without a second initialisation.

    `source(name)` gives the tensor for each state-dict name. Floating tensors become `dtype`; where
    they have it already and stay on the CPU they remain views of the mapped file.
    """
    import torch

    state = {}
    for name, meta in module.state_dict(keep_vars=True).items():
        tensor = source(name).to(device=device, dtype=dtype if meta.is_floating_point() else None)
        state[name] = (
            torch.nn.Parameter(tensor, requires_grad=False) if isinstance(meta, torch.nn.Parameter) else tensor
        )
    module.load_state_dict(state, strict=True, assign=True)
    module.requires_grad_(False)
    module.eval()


def module_bytes(*modules: torch.nn.Module) -> int:
    """Bytes of all parameters and buffers, tied ones counted once."""
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    return sum({t.data_ptr(): t.nbytes for t in tensors}.values())


def parameter_count(module: torch.nn.Module) -> int:
    """Number of parameters, tied ones counted once."""
    return sum({p.data_ptr(): p.numel() for p in module.parameters()}.values())


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises: WeightsError for anything else, and beyond `MAX_JSON`."""
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"it has more than {MAX_JSON:,} bytes")
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{str(path)!r} is not readable JSON: {error}.", "Fetch the file again.") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{str(path)!r} holds no JSON object.", "Fetch the file again.")
    return value


def weight_map(index: Path) -> dict[str, str]:
    """Tensor name -> shard, of a model.safetensors.index.json; each shard a file beside it.

    Raises: WeightsError for names that lead out of the folder, and for files of another kind.
    """
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise WeightsError(f"{str(index)!r} has no weight_map.", "Download the file again.")
    for shard in shards.values():
        if not isinstance(shard, str) or not re.fullmatch(r"[^/\\:\0]+\.safetensors", shard):
            raise WeightsError(
                f"{str(index)!r} names {shard!r:.80}, no safetensors file beside it.",
                "Pickle files and other folders are never opened: convert or download the checkpoint again.",
            )
    return shards


def _some(names: list[str]) -> str:
    rest = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")

"""Graphs on disk: exported once for given weights, precision and versions, then mapped from there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import openvino as ov

from canary_hub.errors import HubError
from canary_hub.settings import cache_folder
from canary_hub.weights.checkpoint import Checkpoint

from . import graph

CHUNK = 2**24  # bytes hashed at a time
_SIZES = "sizes.json"

Export = Callable[[], Mapping[str, ov.Model]]


def exported(name: str, checkpoints: Iterable[Checkpoint], packages: Iterable[str], export: Export) -> dict[str, Path]:
    """The graphs that `export` makes, as files: those of an earlier call where they are whole.

    They are written beside their place and then renamed, so nobody sees half of them.

    Args:
        name: what they are, such as "qwen3-bfloat16"; part of the key.
        checkpoints: what they are made of; part of the key by content.
        packages: distributions whose versions are part of the key, beside openvino.
        export: makes the graphs by name; called only where they are missing or damaged.

    Returns: graph name -> its .xml, with the weights beside it in .bin. Raises: HubError when the disk is full.
    """
    folder = cache_folder("openvino")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / f"{name}-{_key(checkpoints, packages)}"
        if not _is_whole(place):
            _write(place, export())
    except OSError as error:
        raise HubError(
            f"OpenVINO's graphs cannot be written to {str(folder)!r}: {error}.",
            "Set CANARY_HUB_CACHE to a folder on another disk.",
        ) from error
    return {path.stem: path for path in place.glob("*.xml")}


def nbytes(paths: Iterable[Path]) -> int:
    """Bytes of the graphs' weights, which OpenVINO holds in its own layout, but at this size."""
    return sum(path.with_suffix(".bin").stat().st_size for path in paths)


def _write(place: Path, models: Mapping[str, ov.Model]) -> None:
    partial = place.with_name(f"{place.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        for name, model in models.items():
            try:
                graph.save(model, partial / f"{name}.xml")
            except RuntimeError as error:  # OpenVINO's only kind
                raise OSError(str(error).strip().splitlines()[-1]) from error
        (partial / _SIZES).write_text(json.dumps(_sizes(partial)), "utf-8")
        shutil.rmtree(place, ignore_errors=True)
        try:
            partial.rename(place)
        except OSError:
            if not _is_whole(place):  # else another process was first, with the same
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sizes(place: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(place.iterdir()) if path.name != _SIZES}


def _is_whole(place: Path) -> bool:
    """Whether all files are there at their size, and every .xml describes its .bin."""
    try:
        if json.loads((place / _SIZES).read_text("utf-8")) != _sizes(place):
            return False
        core = ov.Core()
        for path in place.glob("*.xml"):
            core.read_model(path)
    except (OSError, ValueError, RuntimeError):
        return False
    return True


def _key(checkpoints: Iterable[Checkpoint], packages: Iterable[str]) -> str:
    parts = [f"graph {graph.VERSION}", *(f"{name} {version(name)}" for name in sorted({"openvino", *packages}))]
    for checkpoint in checkpoints:
        parts.append(json.dumps(checkpoint.config, sort_keys=True))
        parts += [_digest(path) for path in sorted(checkpoint.folder().glob("*.safetensors"))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _digest(path: Path) -> str:
    """SHA-256 of a file's content, read once and remembered for its path, size and time of change."""
    path = path.resolve()
    stat = path.stat()
    seen = hashlib.sha256(f"{path}\n{stat.st_size}\n{stat.st_mtime_ns}".encode()).hexdigest()
    remembered = cache_folder("openvino") / "digests" / seen
    try:
        return remembered.read_text("utf-8")
    except OSError:
        pass
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            sha.update(chunk)
    remembered.parent.mkdir(parents=True, exist_ok=True)
    partial = remembered.with_suffix(f".partial-{os.getpid()}")
    partial.write_text(sha.hexdigest(), "utf-8")
    partial.replace(remembered)
    return sha.hexdigest()

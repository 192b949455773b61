"""What a stack's transcripts depend on, so that those of a changed stack are never taken for its own."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from ..hub import Hub
from ..specs import StackSpec, Stage
from ..version import __version__


def identity(hub: Hub, spec: StackSpec, dtype: str, device: str | None, *, read_weights: bool = True) -> dict[str, Any]:
    """Components, segmenter, options, weights, dtype, device and code of a stack, as plain data.

    Weights in a local folder count with their content (without `read_weights`, with the names, sizes and times of
    their files, which takes no time), others with repository and revision. Code counts with
    canary_hub's version and the content of the folder that each factory lives in: a plugin that is being worked on
    changes without a new version.
    Raises: WeightsError for a folder that is not there, UnknownNameError.
    """
    weights = {}
    for checkpoint in hub.assemble(spec).checkpoints:
        local = checkpoint.ref.path is not None
        files = [*checkpoint.folder().glob("*.safetensors"), *checkpoint.folder().glob("*.json")] if local else []
        of_files = _digest(files) if read_weights else _stamps(files)
        weights[checkpoint.name] = of_files if local else checkpoint.ref.revision
    factories = {part.id: part.factory for part in hub.components(spec).values()}
    factories["segmenter"] = hub.registry.segmenter(spec.segmenter).factory
    return {
        "stack": spec.name,
        "components": {stage.value: spec.components[stage] for stage in Stage},
        "options": {stage.value: {k: str(v) for k, v in spec.options.get(stage, {}).items()} for stage in Stage},
        "weights": weights,
        "dtype": dtype,
        "device": device,
        "window_seconds": spec.window_seconds,
        "segmenter": spec.segmenter,
        "canary_hub": __version__,
        "code": {id: _digest(_sources(factory)) for id, factory in factories.items()},
    }


def file_name(lane: str, identity: dict[str, Any]) -> str:
    """A results file's name: the lane, and eight digits that differ for another identity."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', lane)[:60].strip('-.')}-{digest}.jsonl"


def _sources(factory: str) -> list[Path]:
    """The Python files of the package that "package.module:callable" lies in; a plugin of one file alone."""
    try:
        module = importlib.util.find_spec(factory.partition(":")[0])
    except (ImportError, ValueError):  # what cannot be imported is reported when the stack is loaded
        module = None
    if module is None or module.origin is None:
        return []
    path = Path(module.origin)
    return [*path.parent.glob("*.py")] if module.parent else [path]


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.name}\n".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _stamps(files: list[Path]) -> list[list[Any]]:
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(files)]

"""What a stack's transcripts depend on, so that those of a changed stack are never taken for its own."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from ..assembly import Assembly
from ..hub import Hub
from ..specs import Stage
from ..version import __version__


def identity(hub: Hub, assembly: Assembly, dtype: str, device: str | None) -> dict[str, Any]:
    """Components, segmenter, options, weights, dtype, device and code of a stack, as plain data.

    Weights count with what tells them from all others (see `Checkpoint.fingerprint`), whatever their folder is called.
    Code counts with canary_hub's version and the content of the folder that each factory lives in: a plugin that is
    being worked on changes without a new version.
    Raises: WeightsError for a folder that is not there.
    """
    spec = assembly.spec
    known = {checkpoint.ref: checkpoint.fingerprint() for checkpoint in assembly.checkpoints}
    weights = {
        f"{stage}.{role}": known[checkpoint.ref]
        for stage, build in assembly.builds.items()
        for role, checkpoint in build.weights.items()
    }
    factories = {part.id: part.factory for part in assembly.parts.values()}
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

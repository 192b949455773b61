"""Exploration `weights`: what a checkpoint holds, and which module each tensor fills."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..errors import HubError
from ..specs import StackSpec
from ..weights.headers import File, Tensor, read_headers
from .exploration import Exploration
from .layout import Layout
from .subject import Subject

if TYPE_CHECKING:
    from ..hub import Hub

DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
MOST_PARTS = 8
"""A group of more parts than that is not divided."""


@dataclass(frozen=True)
class Group:
    """Tensors whose names begin alike. depth: 1 for a part of the group before it."""

    name: str
    depth: int
    tensors: int
    parameters: int
    nbytes: int


@dataclass(frozen=True)
class Kind:
    """Tensors that differ only in the number of their layer, and where they go.

    pattern: the names in the file, "N" for the layer. count: how many there are.
    stage, module: what they fill, in the modules of the stack's own components; empty where nothing is known.
    """

    pattern: str
    count: int
    dtype: str
    shape: tuple[int, ...]
    stage: str = ""
    module: str = ""


@dataclass(frozen=True)
class Weights(Exploration):
    """A checkpoint.

    source: what was read: files, or "the configuration".
    files: empty where the inventory follows from the configuration.
    dtypes: name -> how many tensors.
    compared_with: the stack whose configuration says what should be there; empty when none fits.
    tied: (module, the tensor it shares).
    missing, unused, reshaped: names against that configuration.
    """

    exploration: ClassVar[str] = "weights"

    source: str
    files: tuple[File, ...]
    tensors: int
    parameters: int
    nbytes: int
    dtypes: dict[str, int]
    groups: tuple[Group, ...]
    kinds: tuple[Kind, ...]
    compared_with: str
    tied: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    reshaped: tuple[str, ...]


def explore(
    hub: Hub, stack: str | StackSpec, *, checkpoint: str | Path | None = None, best_fit: bool = False
) -> Weights:
    """The inventory of a stack's checkpoint, or of any safetensors file; headers are read, tensors never.

    Args:
        checkpoint: a file, an index of shards or a folder, instead of the stack's own.
        best_fit: compare with whichever stack of the registry it fits best, instead of `stack`.

    Raises: WeightsError when nothing readable is there.
    """
    subject: Subject | None = Subject(hub, stack)
    assert subject is not None
    limits: tuple[str, ...] = ()
    if checkpoint is not None:
        files, tensors = read_headers(Path(checkpoint))
        source = str(checkpoint)
    else:
        files, tensors, source, limits = _own(subject)
    if best_fit:
        subject = _best_fit(hub, tensors)
    layout = subject.layout([tensor.name for tensor in tensors]) if subject else None
    if layout is None:
        subject = None
        limits = (*limits, "It fits the configuration of no stack here: names and sizes alone are shown.")
    expected = layout.shapes() if layout else {}
    filled = layout.filled() if layout else {}
    todays = {tensor.name: layout.todays(tensor.name) if layout else tensor.name for tensor in tensors}
    shapes = {todays[tensor.name]: tensor.shape for tensor in tensors}
    known = {*expected, *filled}  # an adapter's tensors are not asked for
    return Weights(
        stack=subject.spec.name if subject else Path(source).name,
        limits=limits,
        source=source,
        files=files,
        tensors=len(tensors),
        parameters=sum(tensor.numbers for tensor in tensors),
        nbytes=sum(tensor.nbytes for tensor in tensors),
        dtypes=dict(Counter(tensor.dtype for tensor in tensors).most_common()),
        groups=tuple(_groups(tensors)),
        kinds=_kinds(tensors, {name: filled[today] for name, today in todays.items() if today in filled}),
        compared_with=subject.spec.name if subject else "",
        tied=layout.tied if layout else (),
        missing=tuple(name for name in expected if name not in shapes),
        unused=tuple(name for name, today in todays.items() if layout and today not in known),
        reshaped=tuple(name for name, shape in expected.items() if shapes.get(name, shape) != shape),
    )


def _own(subject: Subject) -> tuple[tuple[File, ...], tuple[Tensor, ...], str, tuple[str, ...]]:
    """Files, tensors, source and limits of the stack's own checkpoint."""
    layout = subject.layout()
    if layout is None and subject.missing:
        raise HubError(
            f"Nothing on this machine tells what the checkpoint of stack {subject.spec.name} holds.",
            f"{subject.missing}.",
        )
    if layout is None:
        raise HubError(
            f"Stack {subject.spec.name} has no checkpoint in the layout of nvidia/canary-qwen-2.5b or of a family.",
            "Name its safetensors file with --checkpoint FILE.",
        )
    if subject.speech.available:
        files, tensors = subject.headers()
        return files, tensors, ", ".join(file.name for file in files), ()
    limit = f"Names, shapes and sizes follow from the configuration; no file was read. {subject.missing}."
    return (), _from_config(subject, layout), "the configuration", (limit, *subject.assumed)


def _from_config(subject: Subject, layout: Layout) -> tuple[Tensor, ...]:
    stated = subject.config.get("torch_dtype") or subject.config.get("dtype") or subject.dtype
    dtype = DTYPES.get(str(stated), "F32")
    return tuple(
        Tensor(name, "I64" if name.endswith("num_batches_tracked") else dtype, shape)
        for name, shape in layout.shapes().items()
    )


def _best_fit(hub: Hub, tensors: Sequence[Tensor]) -> Subject | None:
    """The stack whose configuration describes most of the tensors, by name and shape; None below half of them."""
    best, most = None, len(tensors) / 2
    for spec in hub.registry.stacks.values():
        subject = Subject(hub, spec)
        try:
            layout = subject.layout([tensor.name for tensor in tensors])
        except HubError:  # its configuration is not on this machine
            continue
        expected = layout.shapes() if layout else {}
        same = sum(expected.get(layout.todays(t.name)) == t.shape for t in tensors) if layout else 0
        if same > most:
            best, most = subject, same
    return best


def _groups(tensors: Sequence[Tensor]) -> Iterable[Group]:
    """By the first piece of the name, and below it by base and LoRA, or by the second piece."""
    for top, members in _by(tensors, partial(_start, 1)).items():
        yield _group(top, 0, members)
        if any(".lora_" in tensor.name for tensor in members):
            parts = _by(members, lambda name: "LoRA" if ".lora_" in name else "base")
        else:
            parts = _by(members, partial(_start, 2))
        if 1 < len(parts) <= MOST_PARTS:
            yield from (_group(name, 1, part) for name, part in parts.items())


def _start(pieces: int, name: str) -> str:
    """The first pieces of a dotted name, not counting "model.", with which all names of a composite model begin."""
    return ".".join(name.split(".")[: pieces + name.startswith("model.")])


def _by(tensors: Iterable[Tensor], key: Callable[[str], str]) -> dict[str, list[Tensor]]:
    """Tensors by what `key` makes of their names."""
    groups: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(key(tensor.name), []).append(tensor)
    return groups


def _group(name: str, depth: int, members: Sequence[Tensor]) -> Group:
    return Group(name, depth, len(members), sum(t.numbers for t in members), sum(t.nbytes for t in members))


def _pattern(name: str) -> str:
    return re.sub(r"\b(layers?)\.\d+\.", r"\1.N.", name)


def _kinds(tensors: Iterable[Tensor], targets: Mapping[str, tuple[str, str]]) -> tuple[Kind, ...]:
    alike: Counter[Kind] = Counter()
    for tensor in tensors:
        pattern = _pattern(tensor.name)
        stage, module = targets.get(tensor.name, ("", ""))
        # Only where the file's name has a layer's number: "subsampling.layers.2" is one of a kind.
        module = module if pattern == tensor.name else _pattern(module)
        alike[Kind(pattern, 1, tensor.dtype, tensor.shape, stage, module)] += 1
    return tuple(replace(kind, count=n) for kind, n in alike.items())

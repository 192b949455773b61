"""`weights` as sections."""

from __future__ import annotations

import itertools

from ...models.canary_qwen.layout import EMBEDDINGS, TIED_HEAD
from ..tensors import Kind, Weights
from . import Chart, Section, Series, Table, count, percent, shape, size

NAMES = 12
"""So many names of a list are shown."""


def sections(result: Weights) -> list[Section]:
    """Groups, name mapping, and what is tied, missing or unused."""
    parts = [_groups(result), _files(result), _names(result)]
    if result.compared_with:
        parts.append(_accounts(result))
    return parts


def _groups(result: Weights) -> Section:
    rows = tuple(
        (
            "  " * g.depth + g.name,
            f"{g.tensors:,}",
            count(g.parameters),
            size(g.nbytes),
            percent(g.nbytes, result.nbytes),
        )
        for g in result.groups
    )
    total = ("together", f"{result.tensors:,}", count(result.parameters), size(result.nbytes), "100 %")
    parts = {(g.name, g.depth): g.tensors for g in result.groups}
    base, lora = parts.get(("base", 1)), parts.get(("LoRA", 1))
    sentence = f"{result.tensors:,} tensors in {sum(not g.depth for g in result.groups)} groups"
    if base and lora:
        sentence += f"; {base + lora} are the LLM's, of which {lora} are LoRA's thin matrices beside {base} of the base"
    columns = ("group", "tensors", "numbers", "bytes", "share")
    whole = [g for g in result.groups if not g.depth]
    chart = Chart(
        "bytes",
        f"Bytes by group, {result.stack}",
        "bar",
        "",
        "GiB" if result.nbytes >= 2**30 else "MiB",
        (Series("bytes", tuple(g.name for g in whole), tuple(g.nbytes / _unit(result) for g in whole)),),
    )
    return Section("Inventory", sentence + ".", (Table(columns, (*rows, total), right=columns[1:]),), (chart,))


def _unit(result: Weights) -> int:
    return (2**30) if result.nbytes >= 2**30 else (2**20)


def _files(result: Weights) -> Section:
    rows = tuple((file.name, f"{file.tensors:,}", size(file.nbytes)) for file in result.files)
    kinds = " and ".join(f"{n:,} {dtype}" for dtype, n in result.dtypes.items())
    sentence = f"The tensors are {kinds}; "
    if not rows:
        return Section("Files and dtypes", sentence + "all of this follows from the configuration alone.")
    sentence += "a safetensors file begins with a header of all names, dtypes and shapes, and only that was read."
    columns = ("file", "tensors", "size")
    return Section("Files and dtypes", sentence, (Table(columns, rows, right=columns[1:]),))


def _names(result: Weights) -> Section:
    stages = dict.fromkeys(kind.stage for kind in result.kinds)
    tables = tuple(_of_stage(stage, tuple(k for k in result.kinds if k.stage == stage)) for stage in stages)
    if not result.compared_with:
        return Section("Names", "Tensors that differ only in their layer, N, stand there once.", tables)
    sentence = (
        f"Loading gives each of the {len(result.kinds)} kinds of names in the file (N stands for a layer) to the "
        "tensor on the right."
    )
    return Section("From file to module", sentence, tables)


def _of_stage(stage: str, kinds: tuple[Kind, ...]) -> Table:
    """Names with "..." for what all but the embeddings' begins with, which the title tells."""
    pieces = zip(*(kind.pattern.split(".") for kind in kinds if kind.pattern != EMBEDDINGS), strict=False)
    same = itertools.takewhile(lambda at: len(set(at)) == 1, pieces)
    start = "".join(f"{at[0]}." for at in same)
    rows = tuple(
        (f"{k.count}", _short(k.pattern, start), k.dtype, shape(k.shape), *((k.module,) if stage else ()))
        for k in kinds
    )
    columns = ("count", "name in the file", "dtype", "shape", *((f"tensor of the {stage}",) if stage else ()))
    return Table(columns, rows, right=("count",), title=f"... is {start}" if start else "")


def _short(pattern: str, start: str) -> str:
    return f"...{pattern.removeprefix(start)}" if start and pattern.startswith(start) else pattern


def _accounts(result: Weights) -> Section:
    against = f"the configuration of {result.compared_with}"
    rows = tuple(
        (what, f"{len(names):,}", ", ".join(names[:NAMES]) + (" ..." if len(names) > NAMES else ""))
        for what, names in (
            ("tied", tuple(f"{module} = {tensor}" for module, tensor in result.tied)),
            ("missing", result.missing),
            ("unused", result.unused),
            ("wrongly shaped", result.reshaped),
        )
    )
    # What loading accepts: a table that the base LLM has too, and the head tied to it written out.
    wrong = {*result.missing, *result.unused, *result.reshaped} - {EMBEDDINGS, TIED_HEAD}
    if not result.files:
        sentence = f"This is what {against} asks for, so nothing can be missing."
    elif wrong:
        sentence = f"{len(wrong):,} names do not agree with {against}: loading such a file is refused."
    elif result.missing or result.unused:
        sentence = (
            f"The file can be loaded by {against}: the embeddings and the head tied to them may be absent or double."
        )
    else:
        sentence = f"Every tensor of the file is used, and none that {against} asks for is missing."
    return Section("Tied, missing, unused", sentence, (Table(("", "tensors", "names"), rows, right=("tensors",)),))

"""A benchmark: runs in fresh processes, and their median."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HubError
from ..options import check_dtype
from ..settings import cache_folder
from ..specs import StackSpec, Stage
from .random_checkpoint import write_random_checkpoint
from .report import Agreement, BenchReport, Measures

if TYPE_CHECKING:
    from ..hub import Hub

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")


def bench(
    hub: Hub,
    stack: str,
    *,
    random_weights: bool = False,
    base_llm: Path | None = None,
    llm: str | None = None,
    agree_with: str | None = None,
    dtype: str | None = None,
    seconds: float = 11.0,
    tokens: int = 32,
    batch: int = 1,
    runs: int = 3,
    progress: Callable[[str], None] = lambda message: None,
) -> BenchReport:
    """Load and run a stack in fresh processes, with a warm page cache, and take the median.

    Args:
        random_weights: run noise of the stack's shapes, written once to `cache_folder("bench")`.
        base_llm: a folder with the base LLM's config.json and tokenizer.
        llm: another LLM backend's id.
        agree_with: the id of an LLM backend whose tokens are compared with this one's, for `BenchReport.agreement`.
        seconds, batch: length of the synthetic clip, and how many of it run together.
        tokens: decoding steps, the first of which is the prefill; an end token does not end them.
        progress: called with a line before each step.

    Raises: HubError; also what a run raised.
    """
    if min(seconds, tokens - 1, batch, runs) <= 0:
        raise HubError("Nothing to measure.", "Give seconds, batch and runs above 0, and at least 2 tokens.")
    components = {Stage.LLM: llm} if llm else {}
    spec = hub.stack(stack, components=components)
    dtype = dtype or spec.dtype
    check_dtype(dtype)
    hub.check(spec).require(spec.name)
    if agree_with:
        hub.check(hub.stack(spec, components={Stage.LLM: agree_with})).require(spec.name)
    weights = _random_weights(hub, spec, progress) if random_weights else {}
    if base_llm is not None:
        from ..models.canary_qwen.checkpoint import BASE_LLM

        weights[BASE_LLM] = base_llm
    spec = hub.stack(spec, weights=weights)
    job: dict[str, Any] = {
        "stack": stack,
        "plugins": {
            "plugins_dir": os.fspath(hub.plugins_dir) if hub.plugins_dir else None,
            "allow": hub.allow,
            "block": hub.block,
        },
        "components": {stage.value: id for stage, id in components.items()},
        "weights": {role: os.fspath(path) for role, path in weights.items()},
        "dtype": dtype,
        "seconds": seconds,
        "tokens": tokens,
        "batch": batch,
    }
    folders = [checkpoint.folder() for checkpoint in hub.assemble(spec).checkpoints]
    if agree_with:
        progress(f"tokens of {agree_with}")
        job["expected"] = _in_new_process({**job, "components": {Stage.LLM.value: agree_with}})["ids"]
    answers = []
    for i in range(runs):
        progress(f"run {i + 1} of {runs}")
        for folder in folders:
            _warm(folder)
        answers.append(_in_new_process(job))
    measured = [Measures(**answer["measures"]) for answer in answers]
    return BenchReport(
        stack=stack,
        components={stage.value: id for stage, id in spec.components.items()},
        random_weights=random_weights,
        dtype=dtype,
        audio_seconds=seconds,
        batch=batch,
        positions=answers[0]["positions"],
        tokens=len(answers[0]["ids"]),
        machine={**machine(), **answers[0]["machine"]},
        median=_median(measured),
        runs=measured,
        agreement=Agreement(agree_with, answers[0]["same"], len(job["expected"]) * batch) if agree_with else None,
    )


def _random_weights(hub: Hub, spec: StackSpec, progress: Callable[[str], None]) -> dict[str, Path]:
    """Folders of a random checkpoint by role; the base LLM's own tokenizer where it is at hand."""
    from ..models.canary_qwen.checkpoint import BASE_LLM, CHECKPOINT

    builds = hub.assemble(spec).builds.values()
    checkpoints = {role: checkpoint for build in builds for role, checkpoint in build.weights.items()}
    try:
        config, llm = checkpoints[CHECKPOINT], checkpoints[BASE_LLM]
    except KeyError as error:
        raise HubError(
            f"Random weights need a checkpoint in the Canary-Qwen layout, and stack {spec.name!r} reads none.",
            "Bench it with its own weights.",
        ) from error
    folder = cache_folder("bench") / spec.name
    progress(f"random weights in {str(folder)!r}")
    write_random_checkpoint(folder, config.config, llm.config)
    return {CHECKPOINT: folder} if llm.available else {CHECKPOINT: folder, BASE_LLM: folder / "llm"}


def _warm(folder: Path) -> None:
    """Read the weights through, so that they lie in the page cache."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            while file.read(2**24):
                pass


def _in_new_process(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run `job` in a Python of its own and return what it measured. Raises: HubError."""
    package = Path(__file__).parents[1]
    paths = [os.fspath(package.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", f"{package.name}.bench.one_run", json.dumps(job)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        ended = "by signal, perhaps for lack of memory" if done.returncode < 0 else f"with {done.returncode}"
        raise HubError(f"A benchmark run ended {ended}: {last}.", "Bench a smaller stack or a smaller batch.")
    answer: dict[str, Any] = json.loads(lines[-1])
    if "error" in answer:
        raise HubError(*answer["error"])
    return answer


def _median(runs: list[Measures]) -> Measures:
    median: dict[str, Any] = {}
    for field in fields(Measures):
        column = [getattr(run, field.name) for run in runs]
        median[field.name] = None if None in column else statistics.median(column)
    return Measures(**median)


def machine() -> dict[str, Any]:
    """The CPU's model, its cores and which of the fast instruction sets it has."""
    cpu, flags = platform.processor() or platform.machine(), set[str]()
    if Path("/proc/cpuinfo").is_file():
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()]
        facts = {key.strip(): value.strip() for key, _, value in lines}
        cpu = facts.get("model name", cpu)
        flags = set(facts.get("flags", "").split())
    return {"cpu": cpu, "cores": os.cpu_count(), "flags": [flag for flag in CPU_FLAGS if flag in flags]}

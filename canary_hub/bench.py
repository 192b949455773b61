"""Speed and memory of a stack on the CPU, also with random weights of full size.

Speed depends on the shapes and not on the values: a random checkpoint tells what the real one costs,
without downloading it. Every run is a process of its own, so that imports,
loading and peak memory are what a fresh start sees.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import HubError
from .hub import DTYPES
from .random_checkpoint import cache_folder, write_random_checkpoint
from .specs import StackSpec, Stage

if TYPE_CHECKING:
    import torch

    from .hub import Hub
    from .pipeline import Stack
    from .protocols import Step

SAMPLE_SECONDS = 0.05  # between two looks at the anonymous memory; at 0.005 they slowed the run
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")


@dataclass(frozen=True)
class Measures:
    """What one run took, or the median over runs.

    import_seconds: Python modules of all five components, torch and transformers with them.
    load_seconds: `Hub.load`. peak_gib, anonymous_gib: highest resident memory, mapped weights
        included, and of it what is no file; None where the system does not tell.
    prefill_seconds: until the first token is known; ms_per_token: median over the later steps.
    total_seconds: from samples to the last token. speed: audio seconds per such second.
    """

    import_seconds: float
    load_seconds: float
    peak_gib: float | None
    anonymous_gib: float | None
    preprocessor_seconds: float
    encoder_seconds: float
    projector_seconds: float
    prefill_seconds: float
    ms_per_token: float
    total_seconds: float
    speed: float


UNITS = {
    "import_seconds": "import, s",
    "load_seconds": "load, s",
    "peak_gib": "peak memory, GiB",
    "anonymous_gib": "of it anonymous, GiB",
    "preprocessor_seconds": "preprocessor, s",
    "encoder_seconds": "encoder, s",
    "projector_seconds": "projector, s",
    "prefill_seconds": "prefill, s",
    "ms_per_token": "ms per token",
    "total_seconds": "total, s",
    "speed": "times real time",
}
"""The fields of `Measures` with titles for a table."""


@dataclass(frozen=True)
class Agreement:
    """How often the LLM backend chose the token that another one, `llm`, chose: `same` times of `of`.

    Both stood after the same tokens each time, those of `llm`, so that one difference does not make more.
    """

    llm: str
    same: int
    of: int


@dataclass(frozen=True)
class Report:
    """A benchmark: what ran, where, the single runs and their median.

    audio_seconds, batch: length of a clip, and how many equal ones ran together.
    positions: prompt positions of a row; tokens: decoding steps taken.
    """

    stack: str
    components: dict[str, str]
    random_weights: bool
    dtype: str
    audio_seconds: float
    batch: int
    positions: int
    tokens: int
    machine: dict[str, Any]
    median: Measures
    runs: list[Measures]
    agreement: Agreement | None = None

    def write(self, path: Path) -> None:
        """As JSON. Raises: HubError when the file cannot be written."""
        try:
            path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")
        except OSError as error:
            raise HubError(f"{os.fspath(path)!r} cannot be written: {error}.", "Choose another file.") from error


def bench(
    hub: Hub,
    stack: str,
    *,
    random_weights: bool = False,
    base_llm: Path | None = None,
    llm: str | None = None,
    agree_with: str | None = None,
    plugins_dir: Path | None = None,
    dtype: str | None = None,
    seconds: float = 11.0,
    tokens: int = 32,
    batch: int = 1,
    runs: int = 3,
    progress: Callable[[str], None] = lambda message: None,
) -> Report:
    """Load and run a stack in fresh processes, with a warm page cache, and take the median.

    Args:
        random_weights: run noise of the stack's shapes, written once to `cache_folder()`.
        base_llm: a folder with the base LLM's config.json and tokenizer.
        llm: another LLM backend's id.
        agree_with: the id of an LLM backend whose tokens are compared with this one's, for `Report.agreement`.
        plugins_dir: the hub's folder of uninstalled plugins, for the new processes.
        seconds, batch: length of the synthetic clip, and how many of it run together.
        tokens: decoding steps, the first of which is the prefill; an end token does not end them.
        progress: told what goes on.

    Raises: HubError; also what a run raised.
    """
    if min(seconds, tokens - 1, batch, runs) <= 0:
        raise HubError("Nothing to measure.", "Give seconds, batch and runs above 0, and at least 2 tokens.")
    components = {Stage.LLM: llm} if llm else {}
    spec = hub.stack(stack, components=components)
    dtype = dtype or spec.dtype
    if dtype not in DTYPES:
        raise HubError(f"There is no dtype {dtype!r} here.", f"Choose one of {', '.join(DTYPES)}.")
    hub.check(spec).require(spec.name)
    if agree_with:
        hub.check(hub.stack(spec, components={Stage.LLM: agree_with})).require(spec.name)
    weights = _random_weights(hub, spec, progress) if random_weights else {}
    if base_llm is not None:
        from .builtin.canary_qwen import BASE_LLM

        weights[BASE_LLM] = base_llm
    spec = hub.stack(spec, weights=weights)
    job: dict[str, Any] = {
        "stack": stack,
        "plugins_dir": os.fspath(plugins_dir) if plugins_dir else None,
        "components": {stage.value: id for stage, id in components.items()},
        "weights": {role: os.fspath(path) for role, path in weights.items()},
        "dtype": dtype,
        "seconds": seconds,
        "tokens": tokens,
        "batch": batch,
    }
    folders = [checkpoint.folder() for checkpoint in hub.checkpoints(spec)]
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
    return Report(
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
    from .builtin.canary_qwen import BASE_LLM, CHECKPOINT

    found = {checkpoint.ref: checkpoint for checkpoint in hub.checkpoints(spec)}
    try:
        config, llm = (found[spec.weights[role]] for role in (CHECKPOINT, BASE_LLM))
    except KeyError as error:
        raise HubError(
            f"Random weights need a checkpoint in the Canary-Qwen layout, and stack {spec.name!r} reads none.",
            "Bench it with its own weights.",
        ) from error
    folder = cache_folder() / spec.name
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
    package = Path(__file__).parent
    paths = [os.fspath(package.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", f"{package.name}.bench", json.dumps(job)],
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


# ---- one run, in its own process ----------------------------------------------------------------


def _status(field: str) -> float | None:
    """GiB of one line of /proc/self/status."""
    try:
        for line in Path("/proc/self/status").read_text("utf-8").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 2**20
    except OSError:
        pass
    return None


@contextmanager
def _peak_anonymous() -> Iterator[list[float]]:
    """The highest anonymous memory seen, as the list's last number; empty where there is no /proc."""
    seen: list[float] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            now = _status("RssAnon")
            if now is not None and (not seen or now > seen[-1]):
                seen.append(now)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def _speech_like(seconds: float, rate: int) -> torch.Tensor:
    """(S,) noise that swells and fades a few times a second."""
    import torch

    count = round(seconds * rate)
    noise = torch.randn(count, generator=torch.Generator().manual_seed(0))
    return 0.1 * noise * (torch.arange(count) * (8.0 / rate)).sin().square()


Ids = list[tuple[int | None, ...]]
"""The token of every row, by decoding step."""


def _run(
    stack: Stack, seconds: float, tokens: int, batch: int, expected: Ids | None
) -> tuple[dict[str, float], int, Ids, int | None]:
    """Times of the stages on equal clips, positions of a row, its tokens, and how many of the expected ones
    it would have chosen."""
    import torch

    from .injection import inject

    llm = stack.component(Stage.LLM)
    if hasattr(llm, "tokenizer"):
        llm.tokenizer.eos_id = -1  # in this process alone: nothing ends an answer before its time
    wav = _speech_like(seconds, stack.rate).repeat(batch, 1)
    lengths = torch.full((batch,), wav.shape[1])
    options = stack.call_options(**{"llm.max_new_tokens": tokens})
    times = {}
    began = started = time.perf_counter()
    for stage in (Stage.PREPROCESSOR, Stage.ENCODER, Stage.PROJECTOR):
        wav, lengths = stack.component(stage)(wav, lengths)
        times[f"{stage.value}_seconds"] = time.perf_counter() - started
        started = time.perf_counter()
    prompt = llm.tokenize(stack.component(Stage.PROMPT_TEMPLATE).render(options[Stage.PROMPT_TEMPLATE]))
    clips = [row[:n] for row, n in zip(wav, lengths.tolist(), strict=True)]
    injected = inject([prompt] * batch, llm.embed, clips, llm.placeholder_id)
    generate = partial(llm.generate, injected.inputs_embeds, injected.attention_mask, options[Stage.LLM])
    ends: list[float] = []
    ids: Ids = []
    for step in generate():
        ends.append(time.perf_counter())
        ids.append(step.ids)
    times["prefill_seconds"] = ends[0] - started
    times["ms_per_token"] = 1000 * statistics.median(b - a for a, b in itertools.pairwise(ends))
    times["total_seconds"] = ends[-1] - began
    times["speed"] = batch * seconds / times["total_seconds"]
    same = None if expected is None else _same_choices(llm, generate, expected)
    return times, injected.inputs_embeds.shape[1], ids, same


def _same_choices(llm: Any, generate: Callable[[], Iterator[Step]], expected: Ids) -> int:
    """How many of the expected tokens the LLM chooses itself when it is led along them (teacher forcing):
    its head's logits are noted, and replaced by ones that choose the expected token."""
    import torch

    find_head = getattr(getattr(llm, "model", None), "get_output_embeddings", None)
    if find_head is None:
        raise HubError("This LLM backend has no model of transformers, whose tokens can be compared.")
    steps = iter(torch.tensor(expected))
    same = 0

    def lead(head: torch.nn.Module, x: Any, logits: torch.Tensor) -> torch.Tensor:
        nonlocal same
        ids = next(steps).to(logits.device)
        same += int((logits.argmax(dim=-1) == ids).sum())
        return torch.full_like(logits, -torch.inf).scatter(1, ids[:, None], 0.0)

    hook = find_head().register_forward_hook(lead)
    try:
        for _ in generate():
            pass
    finally:
        hook.remove()
    return same


def _measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Import, load and run; the answer for the parent process."""
    import importlib

    started = time.perf_counter()
    with _peak_anonymous() as anonymous:
        from .hub import Hub

        hub = Hub(job["plugins_dir"])
        components = {Stage(stage): id for stage, id in job["components"].items()}
        spec = hub.stack(job["stack"], components=components, weights=job["weights"])
        for part in hub.components(spec).values():
            importlib.import_module(part.factory.partition(":")[0])
        imported = time.perf_counter()
        stack = hub.load(spec, dtype=job["dtype"], device="cpu")
        loaded = time.perf_counter()
        times, positions, ids, same = _run(stack, job["seconds"], job["tokens"], job["batch"], job.get("expected"))
    import torch

    measures = Measures(
        import_seconds=imported - started,
        load_seconds=loaded - imported,
        peak_gib=_status("VmHWM"),
        anonymous_gib=anonymous[-1] if anonymous else None,
        **times,
    )
    return {
        "measures": asdict(measures),
        "positions": positions,
        "ids": ids,
        "same": same,
        "machine": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
    }


def _main() -> None:
    try:
        answer = _measure(json.loads(sys.argv[1]))
    except HubError as error:
        answer = {"error": [error.message, error.hint]}
    print(json.dumps(answer))


if __name__ == "__main__":
    _main()

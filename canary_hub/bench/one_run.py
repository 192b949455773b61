"""One run of a benchmark, in a process of its own: `python -m canary_hub.bench.one_run JOB`.

JOB is JSON; the answer is the last line of standard output, as JSON.
"""

from __future__ import annotations

import itertools
import json
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HubError
from ..specs import Stage
from .report import Measures

if TYPE_CHECKING:
    import torch

    from ..pipeline import Stack
    from ..stages import Step

SAMPLE_SECONDS = 0.05  # between two looks at the anonymous memory; at 0.005 they slowed the run


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

    from ..run.injection import inject

    llm = stack.component(Stage.LLM)
    if hasattr(llm, "tokenizer"):
        llm.tokenizer.eos_ids = ()  # in this process alone: nothing ends an answer before its time
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
    same = None if expected is None else same_choices(llm, generate, expected)
    return times, injected.inputs_embeds.shape[1], ids, same


def same_choices(llm: Any, generate: Callable[[], Iterator[Step]], expected: Ids) -> int:
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
        from ..hub import Hub

        hub = Hub(**job["plugins"])
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

"""The real server under many visitors at once: does everybody get their own answer?

`python tests/robust/load/serve.py --help`; `test_load.py` beside it does the same with fewer of them.

The server is a process of its own on the loopback, started as anybody starts it. Every clip says something else, and
what it says was found out before, by each stack alone.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import httpx
import numpy as np
import soundfile
from visitors import Clip, Manner, Request, Visitor

import canary_hub
from canary_hub import Hub
from canary_hub.atomic import save
from canary_hub.audio.decode import load_audio
from canary_hub.audio.pauses import split_at_pauses
from canary_hub.audio.waveform import Waveform
from canary_hub.errors import HubError
from canary_hub.lanes import parse_lane
from canary_hub.specs import StackSpec

PACKAGE = Path(canary_hub.__file__).parent
LANES = ("nano", "nano llm=canary/qwen3-peft projector=canary/scaled factor=0.4")
"""By default: two stacks that share their encoder, and do not always write the same."""
LONGEST = 20
"""Pieces of speech in the longest clip."""
PIECE_SECONDS = 0.75
START_SECONDS = 120.0
WARM_UP = 0.5
"""The first requests, as a share of all, during which memory may still grow to what it needs."""


@dataclass(frozen=True)
class LoadReport:
    """What many visitors at once were given.

    requests: asked for in all. right, crossed, lost: answered with their own text, with another's, or not at all.
    cancelled, left: given up by the visitor on purpose. refused: how often one was turned away and came back;
        unclear: how many of these refusals did not name a number in the queue and when to try again.
    p50, p95, longest: seconds from asking (being turned away included) to the answer, of the whole ones.
    per_second: requests in a second, all kinds. waited: mean seconds in the queue, by visitor who sends one request
        after the other: the least, the median, and the most.
    overtaken: most runs of one other visitor that began while somebody's own, once in the queue, still waited.
    memory_mib: of the server, after its warm-up and at the end. slope: MiB per 1,000 requests after the warm-up;
        None for fewer than 100.
    loads: components that the server loaded. distinct: how many there are in the stacks.
    failures: what was crossed or lost, in words.
    """

    visitors: int
    stacks: tuple[str, ...]
    seconds: float
    requests: int
    right: int
    crossed: int
    lost: int
    cancelled: int
    left: int
    refused: int
    unclear: int
    p50: float
    p95: float
    longest: float
    per_second: float
    waited: tuple[float, float, float]
    overtaken: int
    memory_mib: tuple[float, float] | None
    slope: float | None
    loads: int
    distinct: int
    failures: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing was crossed, lost or loaded twice."""
        return not (self.crossed or self.lost or self.loads > self.distinct)

    def table(self) -> str:
        """The numbers, a line each."""
        rows = {
            "given their own answer": self.right,
            "given another's": self.crossed,
            "given none": self.lost,
            "cancelled": self.cancelled,
            "hung up": self.left,
            "turned away for a while": self.refused,
            "of these, without number and time": self.unclear,
            "answer: median, 95 %, longest, s": f"{self.p50:.2f} / {self.p95:.2f} / {self.longest:.2f}",
            "requests per second": f"{self.per_second:.1f}",
            "mean wait by visitor, s": "{:.2f} / {:.2f} / {:.2f}".format(*self.waited),
            "runs of one other that went first, at most": self.overtaken,
            "memory, MiB": "-" if self.memory_mib is None else "{:.0f} to {:.0f}".format(*self.memory_mib),
            "MiB per 1,000 requests": "-" if self.slope is None else f"{self.slope:+.1f}",
            "components loaded, of": f"{self.loads} / {self.distinct}",
        }
        title = f"{self.visitors} visitors, {self.requests} requests in {self.seconds:.0f} s: {'; '.join(self.stacks)}"
        return "\n".join([title, *(f"  {name:<44}{value!s:>22}" for name, value in rows.items())])


def load_test(
    hub: Hub,
    lanes: Sequence[str] = (),
    *,
    audio: Path | None = None,
    visitors: int = 50,
    requests: int = 20,
    queue: int = 64,
    seed: int = 0,
    progress: Callable[[str], None] = lambda message: None,
) -> LoadReport:
    """Start the server, let the visitors ask, and check every answer.

    Args:
        lanes: the stacks, each with what differs in it; `LANES` by default.
        audio: speech whose pieces the clips are made of; the page's example by default.
        visitors, requests: how many at once, and how often each asks. One in ten asks everything at once.
        queue: how many runs the server lets wait.

    Raises: HubError, also when the server does not start.
    """
    specs = {f"load-{i + 1}": hub.stack(parse_lane(lane)) for i, lane in enumerate(lanes or LANES)}
    dtypes = [parse_lane(lane).dtype for lane in lanes or LANES]
    progress("what the clips say, by each stack alone")
    clips, distinct = _clips(hub, specs, dtypes, audio, 2 * visitors, seed)
    with TemporaryDirectory(prefix="canary-hub-load-") as folder:
        plugins = _plugins(Path(folder), hub, specs, dtypes)
        with _server(Path(folder), hub, plugins, queue) as (url, process):
            progress(f"{visitors} visitors x {requests} requests at {url}")
            visits = _visit(url, process.pid, clips, visitors, requests, seed, progress)
            all_requests, seconds, memory = asyncio.run(visits)
        loads = (Path(folder) / "loads").read_text("utf-8").count("\n")
    return _report(tuple(lanes or LANES), visitors, all_requests, seconds, memory, loads, distinct)


def _clips(
    hub: Hub, specs: dict[str, StackSpec], dtypes: Sequence[str | None], audio: Path | None, count: int, seed: int
) -> tuple[list[Clip], int]:
    """Clips of mixed lengths that all say something else, and how many components the stacks have."""
    wave = load_audio(audio or PACKAGE / "clips" / "digits.flac")
    pieces = [span.of(wave) for span in split_at_pauses(wave, PIECE_SECONDS)]
    choose = random.Random(seed)
    stacks = {name: hub.load(spec, dtype=dtype) for (name, spec), dtype in zip(specs.items(), dtypes, strict=True)}
    distinct = len({id(entry) for stack in stacks.values() for entry in stack.entries.values()})
    window = min(spec.window_seconds for spec in specs.values())
    clips: list[Clip] = []
    taken: set[tuple[str, str]] = set()
    for tries in itertools.count():
        if len(clips) == count:
            break
        if tries > 20 * count:
            raise HubError("The stacks write the same of too many clips.", "Give other speech, or other stacks.")
        samples = np.concatenate(choose.choices(pieces, k=round(LONGEST ** choose.random())))
        says = {
            name: stack.transcribe(Waveform(samples, wave.rate, "clip")).text.strip() for name, stack in stacks.items()
        }
        if taken.isdisjoint(says.items()) and all(says.values()):
            taken |= set(says.items())
            file = io.BytesIO()
            soundfile.write(file, samples, wave.rate, format="WAV", subtype="FLOAT")
            clips.append(Clip(f"clip-{len(clips)}.wav", file.getvalue(), says, len(samples) <= window * wave.rate))
    for stack in stacks.values():
        stack.close()
    hub.pool.clear()
    return clips, distinct


_STACKS = "load_stacks"
_PLUGIN = '''"""The stacks of a load test, and a note of every component that is loaded."""

import logging
from pathlib import Path, PosixPath, WindowsPath

from canary_hub.hookspecs import hookimpl
from canary_hub.specs import StackSpec, Stage, WeightsRef

log = logging.getLogger("canary_hub.run.pool")
log.setLevel(logging.INFO)
log.addHandler(logging.FileHandler(Path(__file__).parents[1] / "loads"))


@hookimpl
def canary_stacks():
    return [
        {stacks}
    ]
'''


def _plugins(folder: Path, hub: Hub, specs: dict[str, StackSpec], dtypes: Sequence[str | None]) -> Path:
    """A folder of plugins: those of the hub's, and one with the stacks."""
    plugins = folder / "plugins"
    plugins.mkdir()
    for plugin in hub.plugins_dir.iterdir() if hub.plugins_dir else ():
        (plugins / plugin.name).symlink_to(plugin.resolve())
    stacks = []
    for (name, spec), dtype in zip(specs.items(), dtypes, strict=True):
        components = ", ".join(f"Stage({stage.value!r}): {id!r}" for stage, id in spec.components.items())
        options = ", ".join(f"Stage({stage.value!r}): {dict(values)!r}" for stage, values in spec.options.items())
        stacks.append(
            f"StackSpec({name!r}, {{{components}}}, {dict(spec.weights)!r}, {{{options}}}, {spec.window_seconds!r}, "
            f"{dtype or spec.dtype!r}, segmenter={spec.segmenter!r}, chat={spec.chat!r}),"
        )
    (plugins / f"{_STACKS}.py").write_text(_PLUGIN.replace("{stacks}", "\n        ".join(stacks)), "utf-8")
    return plugins


@contextmanager
def _server(folder: Path, hub: Hub, plugins: Path, queue: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`canary-hub serve` as a program of its own: its address and process. Raises: HubError."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = [os.fspath(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        "GRADIO_TEMP_DIR": os.fspath(folder / "uploads"),
        "CANARY_HUB_SHARE_DAYS": "0",
        "CANARY_HUB_ALLOW_PLUGINS": ",".join([*hub.allow, _STACKS]) if hub.allow is not None else "",
        "CANARY_HUB_BLOCK_PLUGINS": ",".join(hub.block),
    }
    command = [sys.executable, "-m", "canary_hub.cli", "serve", "--port", str(port), "--queue", str(queue)]
    command += ["--host", "127.0.0.1", "--plugins-dir", os.fspath(plugins), "--stack", "load-1"]
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        until = time.monotonic() + START_SECONDS
        while "/v1" not in log.read_text("utf-8", "replace"):
            if process.poll() is not None or time.monotonic() > until:
                last = (log.read_text("utf-8", "replace").strip().splitlines() or ["it printed nothing"])[-1]
                raise HubError(f"The server does not start: {last}", "Try `canary-hub serve` alone.")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


async def _visit(
    url: str, pid: int, clips: list[Clip], visitors: int, requests: int, seed: int, progress: Callable[[str], None]
) -> tuple[list[Request], float, list[tuple[int, float]]]:
    """All visitors at once: their requests, the seconds it took, and (requests ended, MiB of the server)."""
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
        config = (await http.get("/config")).raise_for_status().json()
    fn_index = next(one["id"] for one in config["dependencies"] if one["api_name"] == "transcribe")
    choose = random.Random(seed)
    stacks = list(clips[0].says)
    everybody, everything = [], []
    for number in range(visitors):
        at_once = number % 10 == 9 or (visitors < 10 and number == visitors - 1)
        plan = []
        for _ in range(requests):
            clip = clips[2 * number + choose.randrange(2)]  # nobody else has it
            manner: Manner = choose.choices(("whole", "cancel", "leave"), (8, 1, 1))[0]
            face = "page" if at_once or manner == "cancel" else choose.choice(("page", "openai"))
            plan.append((clip, Request(number, at_once, clip.name, choose.choice(stacks), face, manner)))
        everybody.append(Visitor(number, url, fn_index, plan))
        everything += [request for _, request in plan]
    memory: list[tuple[int, float]] = []
    ended = threading.Event()

    def look() -> None:
        shown = 0
        while not ended.wait(0.25):
            done = sum(request.ended > 0 for request in everything)
            if (mib := _resident_mib(pid)) is not None:
                memory.append((done, mib))
            if done >= shown + 100:
                shown = done
                progress(f"{done} of {len(everything)} requests")

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    began = time.perf_counter()
    try:
        await asyncio.gather(*(one.visit() for one in everybody))
    finally:
        ended.set()
        watch.join()
    return everything, time.perf_counter() - began, memory


def _resident_mib(pid: int) -> float | None:
    try:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text("ascii"))
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None


def _report(
    lanes: tuple[str, ...],
    visitors: int,
    all_requests: list[Request],
    seconds: float,
    memory: list[tuple[int, float]],
    loads: int,
    distinct: int,
) -> LoadReport:
    states = Counter(request.state for request in all_requests)
    took = sorted(request.ended - request.sent for request in all_requests if request.state == "right") or [0.0]
    refused = [message for request in all_requests for message in request.refused]
    patient = [request for request in all_requests if not request.at_once]
    waits: dict[int, list[float]] = {}
    for request in patient:
        if request.began and request.entered:
            waits.setdefault(request.visitor, []).append(request.began - request.entered)
    waited = sorted(map(statistics.fmean, waits.values())) or [0.0]
    steady = [(done, mib) for done, mib in memory if done >= WARM_UP * len(all_requests)]
    slope = None
    if len(steady) > 1 and steady[-1][0] - steady[0][0] >= 100:
        slope = 1000 * statistics.linear_regression(*zip(*steady, strict=True)).slope
    return LoadReport(
        visitors=visitors,
        stacks=lanes,
        seconds=seconds,
        requests=len(all_requests),
        right=states["right"],
        crossed=states["crossed"],
        lost=states["lost"],
        cancelled=states["cancelled"],
        left=states["left"],
        refused=len(refused),
        unclear=sum(not re.search(r"number \d+ .*Try again in \d+ second", message) for message in refused),
        p50=statistics.median(took),
        p95=took[int(0.95 * (len(took) - 1))],
        longest=took[-1],
        per_second=len(all_requests) / seconds,
        waited=(waited[0], statistics.median(waited), waited[-1]),
        overtaken=max((_overtaken(request, all_requests) for request in patient), default=0),
        memory_mib=(steady[0][1], steady[-1][1]) if steady else None,
        slope=slope,
        loads=loads,
        distinct=distinct,
        failures=tuple(
            f"visitor {request.visitor}, {request.clip}, {request.stack}, {request.face}: "
            f"{request.state} after {request.ended - request.sent:.0f} s: {request.why}"
            for request in all_requests
            if request.state in ("crossed", "lost")
        ),
    )


def _overtaken(request: Request, all_requests: list[Request]) -> int:
    """Most runs of one other visitor that began while this one waited in the queue."""
    if request.entered is None or request.began is None:
        return 0
    others = (other for other in all_requests if other.visitor != request.visitor and other.began is not None)
    before = Counter(other.visitor for other in others if request.entered < other.began < request.began)
    return max(before.values(), default=0)


@click.command()
@click.option("--lane", "lanes", multiple=True, metavar="LANE", help="A stack, and what differs in it.")
@click.option("--visitors", type=click.IntRange(1, 1000), default=50, show_default=True, help="At once.")
@click.option("--requests", type=click.IntRange(1), default=20, show_default=True, help="Of each visitor.")
@click.option("--queue", type=click.IntRange(1), default=64, show_default=True, help="How many may wait.")
@click.option("--audio", type=click.Path(path_type=Path, dir_okay=False), help="Speech to cut clips from.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write everything here too.")
def main(json_file: Path | None, **options: Any) -> None:
    """Start the page as a program of its own and let many visitors ask at once, by the page and by OpenAI's API.

    Some cancel, some hang up, some send everything together. The exit code is 1 if an answer was lost or went to
    somebody else, or a stack was loaded twice.
    """
    report = load_test(Hub(), progress=lambda message: click.echo(message, err=True), **options)
    if json_file is not None:
        save(json_file, json.dumps(asdict(report), indent=1) + "\n")
    click.echo(report.table())
    for failure in report.failures:
        click.echo(failure, err=True)
    if not report.holds:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

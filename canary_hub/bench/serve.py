"""`canary-hub bench --serve`: the real server under many visitors at once. Does everybody get their own answer?

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
from typing import TYPE_CHECKING

from ..atomic import save
from ..audio.decode import load_audio
from ..audio.pauses import split_at_pauses
from ..audio.waveform import Waveform
from ..errors import HubError
from ..lanes import parse_lane
from .visitors import Asked, Clip, Manner, Visitor

if TYPE_CHECKING:
    from ..hub import Hub
    from ..specs import StackSpec

LANES = ("nano", "nano llm=canary/qwen3-peft projector=canary/scaled factor=0.4")
"""By default: two stacks that share their encoder, and do not always write the same."""
LONGEST = 20
"""Pieces of speech in the longest clip."""
PIECE_SECONDS = 0.75
START_SECONDS = 120.0
WARM_UP = 0.5
"""The first requests, as a share of all, during which memory may still grow to what it needs."""


@dataclass(frozen=True)
class ServeReport:
    """What many visitors at once were given.

    requests: asked for in all. right, crossed, lost: answered with their own text, with another's, or not at all.
    cancelled, left: given up by the visitor on purpose. refused: how often one was turned away and came back;
        unclear: how many of these refusals did not name a number in the queue and when to try again.
    p50, p95, longest: seconds from asking (being turned away included) to the answer, of the whole ones.
    per_second: requests in a second, all kinds. waited: mean seconds by visitor who asks one by one: the least, the
        median, and the most.
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

    def write(self, path: Path) -> None:
        """As JSON. Raises: HubError when the file cannot be written."""
        save(path, json.dumps(asdict(self), indent=1) + "\n")


def bench_serve(
    hub: Hub,
    lanes: Sequence[str] = (),
    *,
    audio: Path | None = None,
    visitors: int = 50,
    requests: int = 20,
    queue: int = 64,
    seed: int = 0,
    progress: Callable[[str], None] = lambda message: None,
) -> ServeReport:
    """Start the server, let the visitors ask, and check every answer.

    Args:
        lanes: the stacks, each with what differs in it; `LANES` by default.
        audio: speech whose pieces the clips are made of; the page's example by default.
        visitors, requests: how many at once, and how often each asks. One in ten asks everything at once.
        queue: how many runs the server lets wait.

    Raises: HubError, also when the server does not start.
    """
    specs = {f"load-{i + 1}": parse_lane(lane).spec(hub) for i, lane in enumerate(lanes or LANES)}
    dtypes = [parse_lane(lane).dtype for lane in lanes or LANES]
    progress("what the clips say, by each stack alone")
    clips, distinct = _clips(hub, specs, dtypes, audio, 2 * visitors, seed)
    with TemporaryDirectory(prefix="canary-hub-bench-") as folder:
        plugins = _plugins(Path(folder), hub, specs, dtypes)
        with _server(Path(folder), hub, plugins, queue) as (url, process):
            progress(f"{visitors} visitors x {requests} requests at {url}")
            asked, seconds, memory = asyncio.run(_visit(url, process.pid, clips, visitors, requests, seed, progress))
        loads = (Path(folder) / "loads").read_text("utf-8").count("\n")
    return _report(tuple(lanes or LANES), visitors, asked, seconds, memory, loads, distinct)


def _clips(
    hub: Hub, specs: dict[str, StackSpec], dtypes: Sequence[str | None], audio: Path | None, count: int, seed: int
) -> tuple[list[Clip], int]:
    """Clips of mixed lengths that all say something else, and how many components the stacks have."""
    import numpy as np
    import soundfile  # type: ignore[import-untyped, unused-ignore]

    wave = load_audio(audio or Path(__file__).parents[1] / "clips" / "digits.flac")
    pieces = [span.of(wave) for span in split_at_pauses(wave, PIECE_SECONDS)]
    choose = random.Random(seed)
    stacks = {name: hub.load(spec, dtype=dtype) for (name, spec), dtype in zip(specs.items(), dtypes, strict=True)}
    distinct = len({id(entry) for stack in stacks.values() for entry in stack.entries.values()})
    window = min(spec.window_seconds for spec in specs.values())
    clips: list[Clip] = []
    said: set[tuple[str, str]] = set()
    for tries in itertools.count():
        if len(clips) == count:
            break
        if tries > 20 * count:
            raise HubError("The stacks write the same of too many clips.", "Give other speech, or other stacks.")
        samples = np.concatenate(choose.choices(pieces, k=round(LONGEST ** choose.random())))
        says = {
            name: stack.transcribe(Waveform(samples, wave.rate, "clip")).text.strip() for name, stack in stacks.items()
        }
        if said.isdisjoint(says.items()) and all(says.values()):
            said |= set(says.items())
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
    package = Path(__file__).parents[1]
    paths = [os.fspath(package.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        "GRADIO_TEMP_DIR": os.fspath(folder / "uploads"),
        "CANARY_HUB_SHARE_DAYS": "0",
        "CANARY_HUB_ALLOW_PLUGINS": ",".join([*hub.allow, _STACKS]) if hub.allow is not None else "",
        "CANARY_HUB_BLOCK_PLUGINS": ",".join(hub.block),
    }
    command = [sys.executable, "-m", f"{package.name}.cli", "serve", "--port", str(port), "--queue", str(queue)]
    command += ["--host", "127.0.0.1", "--plugins-dir", os.fspath(plugins), "--stack", "load-1"]
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        until = time.monotonic() + START_SECONDS
        while "/v1" not in log.read_text("utf-8", "replace"):
            if process.poll() is not None or time.monotonic() > until:
                last = (log.read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
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
) -> tuple[list[Asked], float, list[tuple[int, float]]]:
    """All visitors at once: what they asked, the seconds it took, and (requests ended, MiB of the server)."""
    import httpx

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
            plan.append((clip, Asked(number, at_once, clip.name, choose.choice(stacks), face, manner)))
        everybody.append(Visitor(number, url, fn_index, plan))
        everything += [asked for _, asked in plan]
    memory: list[tuple[int, float]] = []
    over = threading.Event()

    def look() -> None:
        said = 0
        while not over.wait(0.25):
            done = sum(asked.ended > 0 for asked in everything)
            if (mib := _resident_mib(pid)) is not None:
                memory.append((done, mib))
            if done >= said + 100:
                said = done
                progress(f"{done} of {len(everything)} requests")

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    began = time.perf_counter()
    try:
        await asyncio.gather(*(one.visit() for one in everybody))
    finally:
        over.set()
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
    asked: list[Asked],
    seconds: float,
    memory: list[tuple[int, float]],
    loads: int,
    distinct: int,
) -> ServeReport:
    states = Counter(one.state for one in asked)
    took = sorted(one.ended - one.asked for one in asked if one.state == "right") or [0.0]
    refused = [told for one in asked for told in one.refused]
    patient = [one for one in asked if not one.at_once]
    waits: dict[int, list[float]] = {}
    for one in patient:
        if one.began and one.entered:
            waits.setdefault(one.visitor, []).append(one.began - one.entered)
    waited = sorted(map(statistics.fmean, waits.values())) or [0.0]
    steady = [(done, mib) for done, mib in memory if done >= WARM_UP * len(asked)]
    slope = None
    if len(steady) > 1 and steady[-1][0] - steady[0][0] >= 100:
        slope = 1000 * statistics.linear_regression(*zip(*steady, strict=True)).slope
    return ServeReport(
        visitors=visitors,
        stacks=lanes,
        seconds=seconds,
        requests=len(asked),
        right=states["right"],
        crossed=states["crossed"],
        lost=states["lost"],
        cancelled=states["cancelled"],
        left=states["left"],
        refused=len(refused),
        unclear=sum(not re.search(r"number \d+ .*Try again in \d+ second", told) for told in refused),
        p50=statistics.median(took),
        p95=took[int(0.95 * (len(took) - 1))],
        longest=took[-1],
        per_second=len(asked) / seconds,
        waited=(waited[0], statistics.median(waited), waited[-1]),
        overtaken=max((_overtaken(one, asked) for one in patient), default=0),
        memory_mib=(steady[0][1], steady[-1][1]) if steady else None,
        slope=slope,
        loads=loads,
        distinct=distinct,
        failures=tuple(
            f"visitor {one.visitor}, {one.clip}, {one.stack}, {one.face}: "
            f"{one.state} after {one.ended - one.asked:.0f} s: {one.why}"
            for one in asked
            if one.state in ("crossed", "lost")
        ),
    )


def _overtaken(one: Asked, asked: list[Asked]) -> int:
    """Most runs of one other visitor that began while this one waited in the queue."""
    if one.entered is None or one.began is None:
        return 0
    before = Counter(
        other.visitor
        for other in asked
        if other.visitor != one.visitor and other.began is not None and one.entered < other.began < one.began
    )
    return max(before.values(), default=0)

"""A program of its own that notes every file it opens for writing: `python watched.py NOTES decode|cli ...`.

    decode SECONDS         load_audio on each path of stdin (a JSON list); prints a JSON list of what came of each
    cli ARGUMENT...        the command line

NOTES gets the places written to, one JSON string on a line, and at the end the most memory held, in bytes. Linux
only: that is the kernel's own figure.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.mkdir": 0,
    "os.rename": 1,
    "os.remove": 0,
    "os.rmdir": 0,
    "os.symlink": 1,
    "os.link": 1,
    "os.truncate": 0,
}


def watch(notes: Path) -> None:
    """Write down where this process writes from now on, and at its end how much memory it took."""
    out = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    atexit.register(lambda: os.write(out, f"{peak()}\n".encode()))

    def note(event: str, args: tuple[Any, ...]) -> None:
        place = None
        if event == "open" and isinstance(args[2], int) and args[2] & _WRITES:
            place = args[0]
        elif event in _CHANGES:
            place = args[_CHANGES[event]]
        if isinstance(place, (str, bytes)):
            os.write(out, (json.dumps(os.path.abspath(os.fsdecode(place))) + "\n").encode())

    sys.addaudithook(note)


def peak() -> int:
    """The most memory this process has held since `forget_peak`, in bytes."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def forget_peak() -> None:
    """Start measuring anew."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def decode(paths: list[str], seconds: float) -> list[dict[str, Any]]:
    """What came of each: its length or the error, the time, and the memory on top of what was held before."""
    from canary_hub.audio.decode import Limits, load_audio
    from canary_hub.errors import HubError

    load_audio(str(Path(__file__).parents[1] / "digits" / "seven.flac"))  # imports are not an input's memory
    load_audio(str(Path(__file__).parents[1] / "digits" / "seven.flac"), 8000)
    outcomes = []
    for path in paths:
        forget_peak()
        before, started = peak(), time.perf_counter()
        outcome: dict[str, Any] = {}
        try:
            wave = load_audio(path, limits=Limits(max_seconds=seconds))
            outcome = {"seconds": wave.seconds, "name": wave.name}
            del wave
        except HubError as error:
            outcome = {"message": error.message, "hint": error.hint}
        except BaseException as error:
            outcome = {"raised": repr(error)}
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        outcomes.append(
            {**outcome, "took": time.perf_counter() - started, "bytes": peak() - before, "children": children}
        )
    return outcomes


def environment(work: Path) -> dict[str, str]:
    """All that a program may write to lies in `work`."""
    places = {name: str(work) for name in ("HOME", "TMPDIR", "HF_HOME", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR")}
    return {**os.environ, **places, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}


def watched(work: Path, *arguments: str, timeout: float, stdin: str = "") -> tuple[Any, Path]:
    """Run this program in `work`: the finished program, and its notes."""
    notes = work.parent / f"{work.name}.notes"
    notes.unlink(missing_ok=True)
    command = [sys.executable, __file__, str(notes), *arguments]
    text = {"text": True, "encoding": "utf-8", "errors": "replace"}
    done = subprocess.run(
        command, input=stdin, capture_output=True, cwd=work, env=environment(work), timeout=timeout, **text
    )
    return done, notes


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
    if sys.argv[2] == "decode":
        print(json.dumps(decode(json.load(sys.stdin), float(sys.argv[3]))))
    else:
        from canary_hub.cli import main

        sys.argv = ["canary-hub", *sys.argv[3:]]
        main()

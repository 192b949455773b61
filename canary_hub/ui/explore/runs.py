"""One exploration as the page shows it: a sequence of moments, each complete in itself. No gradio here."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Generator
from concurrent.futures import TimeoutError as NotYet
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ...audio.decode import load_audio
from ...errors import HubError, explain
from ...explore import explore
from ...explore.exploration import Exploration
from ...explore.subject import CLIP, Subject
from ...hub import Hub
from ...lanes import Lane
from ...run.background import in_background
from ..server.deadline import limited
from ..widgets.loading import load
from ..widgets.runs import State
from ..widgets.zerogpu import gpu

LOOK_EVERY = 0.2
"""Seconds between two looks at whether it has ended, so until Stop is heard."""

_one_at_a_time = threading.Lock()
"""What was stopped ends in the background; the next one waits for it, as it may have the adapter off."""

HEARING = ("lora", "injection", "generation")
"""What listens to a clip, where the weights are here."""

DOING = {
    "structure": "Building the LLM without its weights",
    "lora": "Comparing every adapted weight, and listening with the adapter on and off",
    "weights": "Reading names and shapes",
    "injection": "Putting the clip into the prompt",
    "generation": "Writing the answer in all the ways that are compared below",
}


class Key(NamedTuple):
    """What is explored: the stack and the exploration by name, and the clip's file; None for the example."""

    stack: str
    name: str | None
    audio: str | None = None


@dataclass(frozen=True)
class ExploreMoment:
    """What the Explore tab shows at one moment.

    message, hint: the status line; the hint says what to do about a failure.
    found: everything, at the end. seconds: that it took, loading included.
    """

    state: State = "idle"
    message: str = ""
    hint: str = ""
    found: Exploration | None = None
    seconds: float = 0.0


def computes(hub: Hub, key: Key) -> bool:
    """Whether this runs the model. Otherwise it is done at once, from configurations and file headers.

    Raises: UnknownNameError.
    """
    if key.name not in HEARING:
        return False
    subject = Subject(hub, key.stack)
    try:
        return not subject.missing and (key.name != "lora" or subject.in_published_layout)
    except HubError:  # which exploring it says again
        return False


def run_exploration(hub: Hub, key: Key) -> Generator[ExploreMoment, None, None]:
    """Explore; a failure is a moment too, never an exception. Nothing is downloaded."""
    name, started = key.name or "", time.perf_counter()
    yield ExploreMoment("busy", DOING.get(name, "Looking"))
    try:
        # It replaces itself in sys.modules: "from transformers import" fails while another thread is importing it.
        importlib.import_module("transformers")
        if not computes(hub, key):
            found = explore(name, hub, key.stack, **_given(key))
            yield ExploreMoment("done", found=found, seconds=time.perf_counter() - started)
            return
        if key.audio is not None and not Path(key.audio).exists():
            raise HubError("This audio has been deleted from the server meanwhile.", "Upload or record it again.")
        length = load_audio(key.audio or CLIP).seconds  # bad input is told before anything loads
        with closing(limited(hub, [Lane(key.stack)], _compute(hub, key, length))) as moments:
            for moment in moments:
                if isinstance(moment, str):
                    yield ExploreMoment("busy", moment)
                else:
                    yield ExploreMoment("done", found=moment, seconds=time.perf_counter() - started)
    except Exception as error:
        yield ExploreMoment("failed", *explain(error))


def _gpu_seconds(key: Key, length: float) -> float:
    """Generous: `generation` writes up to nine answers, `lora` decomposes every update in float64."""
    return {"generation": 15 + length, "lora": 30 + 0.3 * length}.get(key.name or "", 10)


@gpu(_gpu_seconds)
def _compute(hub: Hub, key: Key, length: float) -> Generator[str | Exploration, None, None]:
    """Load and explore; the part that needs a GPU. Yields what is happening, then what was found."""
    spec = hub.stack(key.stack)
    with (yield from load(hub, spec, str)):  # the exploration takes it from the pool

        def work() -> Exploration:
            with _one_at_a_time:
                return explore(str(key.name), hub, spec, **_given(key))

        # In a thread of its own, for Stop takes effect where something is yielded.
        exploring = in_background(work)
        while True:
            yield DOING[str(key.name)]
            try:
                found = exploring.result(timeout=LOOK_EVERY)
            except NotYet:
                continue
            yield found
            return


def _given(key: Key) -> dict[str, str]:
    return {"audio": key.audio} if key.audio is not None and key.name in HEARING else {}

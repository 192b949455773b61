"""Sharing a result, when a visitor asks for it: a link that opens it, and a key that deletes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import gradio as gr

from ...audio.decode import Limits, load_audio
from ...compare import Comparison
from ...errors import HubError, explain
from ...run.result import Result
from ...share.links import Link, to_query
from ...share.store import Saved, SharedResults
from ..server.rates import Rate, rate_from_env
from ..server.visitor import visitor
from .events import PRIVATE
from .html import note, status
from .runs import Moment
from .templates import render

AUDIO_RATE = 16000

Found = Callable[[Any], tuple[Result | Comparison | None, str | None]]
"""From what the tab showed last to the result and its audio file."""


class Share:
    """The panel under a result."""

    def __init__(self, shared: SharedResults, name: str) -> None:
        self.shared = shared
        self.rate = shares_rate()
        with gr.Accordion("Share this result", open=False, elem_id=f"{name}-share"):
            gr.HTML(
                note(
                    f"Makes a link that opens this result for {shared.days:g} days. Whoever has it can read the "
                    "result; nobody can guess it. You get a key to delete it earlier."
                )
            )
            self.audio = gr.Checkbox(
                label="Include the audio", info="Off: text and figures alone are kept.", elem_id=f"{name}-share-audio"
            )
            self.button = gr.Button("Create a link", size="sm", elem_id=f"{name}-share-button")
            self.created = gr.HTML("", elem_id=f"{name}-shared")

    def listen(self, last: gr.State, found: Found) -> None:
        """Wire the button to what was shown `last`."""

        def share(shown: Any, with_audio: bool, request: gr.Request) -> str:
            try:
                result, audio = found(shown)
                if result is None:
                    raise HubError("There is no result to share yet.", "Run something first.")
                if self.rate and (seconds := self.rate.wait(visitor(request))):
                    raise HubError("You have shared many results.", f"Share the next one in {seconds // 60 + 1} min.")
                wave = load_audio(audio, AUDIO_RATE, Limits.from_env()) if with_audio and audio else None
                return created(self.shared.save(result, wave))
            except Exception as error:
                return status(Moment("failed", *explain(error)))

        self.button.click(
            share,
            [last, self.audio],
            [self.created],
            trigger_mode="once",
            **PRIVATE,
        )


@cache
def shares_rate() -> Rate | None:
    """How often one visitor may share, whatever it is. Raises: OptionError."""
    return rate_from_env("CANARY_HUB_SHARES_PER_HOUR", 20, 3600)


def created(saved: Saved) -> str:
    """The link and the key of a new shared result."""
    return render(
        "share/created.html",
        query=to_query(Link(result=saved.id)),
        until=time.strftime("%d %B %Y", time.gmtime(saved.expires)),
        key=saved.key,
    )

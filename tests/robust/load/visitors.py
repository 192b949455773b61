"""Visitors of a page under load: many at once, some impatient, each with an address of its own on the loopback.

They speak HTTP as a browser does (upload, /queue/join, the stream of /queue/data, /cancel) and as OpenAI's client does.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import httpx

ANSWER_SECONDS = 1800.0
"""A request without an answer for so long is lost."""
LONGEST_PAUSE = 5.0
"""Seconds that a visitor waits at most before asking again, whatever it was told."""

Manner = Literal["whole", "cancel", "leave"]


@dataclass(frozen=True)
class Clip:
    """A WAV file.

    says: by stack, what that stack alone has read in it. one_piece: whether all decode it in one piece, so that an
    unfinished text is the beginning of the whole one.
    """

    name: str
    wav: bytes
    says: dict[str, str]
    one_piece: bool


@dataclass
class Request:
    """One request and what became of it. Times are seconds of `time.perf_counter`.

    at_once: whether the visitor sends all its requests together, or one after the other.
    face: "page" or "openai". manner: whether the visitor wants it whole, cancels it, or hangs up.
    entered, began: when it was in the queue, and when its run began; only the page's protocol tells.
    state: "right"; "crossed" for another text than its own; "lost" without an answer; "cancelled"; "left".
    refused: the answer each time it was turned away. place: how many were waiting before it at most.
    """

    visitor: int
    at_once: bool
    clip: str
    stack: str
    face: str
    manner: Manner
    sent: float = 0.0
    entered: float | None = None
    began: float | None = None
    ended: float = 0.0
    state: str = "lost"
    why: str = ""
    refused: list[str] = field(default_factory=list)
    place: int | None = None


class Visitor:
    """A visitor, and the requests it is going to make."""

    def __init__(self, number: int, url: str, fn_index: int, plan: Sequence[tuple[Clip, Request]]) -> None:
        self.number, self.fn_index, self.plan = number, fn_index, plan
        self.random = random.Random(number)
        address = f"127.0.{1 + number // 250}.{1 + number % 250}" if sys.platform == "linux" else None
        # No connection is used twice: the server closes one that idles for 5 s, at times just as a request is sent.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        transport = httpx.AsyncHTTPTransport(local_address=address, limits=limits)
        self.http = httpx.AsyncClient(base_url=url, transport=transport, timeout=ANSWER_SECONDS, trust_env=False)

    async def visit(self) -> None:
        """Ask everything that is planned."""
        async with self.http:
            await asyncio.gather(*(self._ask(clip, request) for clip, request in self.plan if request.at_once))
            for clip, request in self.plan:
                if not request.at_once:
                    await self._ask(clip, request)

    async def _ask(self, clip: Clip, request: Request) -> None:
        request.sent = time.perf_counter()
        try:
            with anyio.fail_after(ANSWER_SECONDS):
                await (self._page if request.face == "page" else self._openai)(clip, request)
        except (httpx.HTTPError, TimeoutError, KeyError, ValueError) as error:
            request.why = f"{type(error).__name__}: {error}"
        request.ended = time.perf_counter()

    def _check(self, clip: Clip, request: Request, text: str) -> None:
        """The whole answer is here."""
        request.state = "right" if text.strip() == clip.says[request.stack] else "crossed"
        request.why = "" if request.state == "right" else f"{text!r} instead of {clip.says[request.stack]!r}"

    async def _pause(self, request: Request, message: str) -> None:
        request.refused.append(message)
        found = re.search(r"Try again in (\d+) second", message)
        await asyncio.sleep(min(LONGEST_PAUSE, float(found[1]) if found else LONGEST_PAUSE))

    async def _page(self, clip: Clip, request: Request) -> None:
        files = {"files": (clip.name, clip.wav, "audio/wav")}
        uploaded = await self.http.post("/gradio_api/upload", files=files)
        data = [{"path": uploaded.raise_for_status().json()[0], "meta": {"_type": "gradio.FileData"}}, request.stack]
        session = f"load-{self.number}-{self.random.getrandbits(64):x}"
        body = {"data": data, "fn_index": self.fn_index, "session_hash": session, "simple_format": True}
        while True:
            joined = await self.http.post("/gradio_api/queue/join", json=body)
            if joined.status_code not in (400, 503):
                break
            await self._pause(request, str(joined.json().get("detail")))
        event = joined.raise_for_status().json()["event_id"]
        request.entered = time.perf_counter()
        impatience = self.random.choice(("waiting", "working"))
        async with aclosing(_messages(self.http, session)) as messages:
            async for message in messages:
                kind, output = message["msg"], message.get("output") or {}
                if kind == "estimation":
                    request.place = max(request.place or 0, message["rank"])
                elif kind == "process_starts":
                    request.began = time.perf_counter()
                elif kind == "process_generating" and clip.one_piece:
                    part, whole = output["data"][0].strip(), clip.says[request.stack]
                    # The second case: a repetition that is taken back at the end.
                    if not whole.startswith(part) and not part.startswith(whole):
                        request.state, request.why = "crossed", f"{part!r} on the way to {whole!r}"
                        return
                elif kind == "process_completed":
                    if request.state == "cancelled":
                        return
                    if not message["success"]:
                        request.why = str(output.get("error"))
                        return
                    self._check(clip, request, output["data"][0])
                    return
                stop = kind == ("estimation" if impatience == "waiting" else "process_generating")
                if request.manner == "leave" and stop:
                    request.state = "left"
                    return
                if request.manner == "cancel" and stop and request.state != "cancelled":
                    request.state = "cancelled"
                    body = {"session_hash": session, "fn_index": self.fn_index, "event_id": event}
                    (await self.http.post("/gradio_api/cancel", json=body)).raise_for_status()
        request.why = "the stream ended without an answer"

    async def _openai(self, clip: Clip, request: Request) -> None:
        files = {"file": (clip.name, clip.wav, "audio/wav")}
        patience = None if request.manner == "whole" else self.random.uniform(0.05, 1.5)
        while True:
            try:
                with anyio.fail_after(patience):
                    form = {"model": request.stack}
                    answer = await self.http.post("/v1/audio/transcriptions", data=form, files=files)
            except TimeoutError:
                request.state = "left"
                return
            if answer.status_code not in (429, 503):
                break
            error = answer.json()["error"]
            if error["code"] not in ("overloaded", "rate_limit_exceeded"):
                break
            await self._pause(request, error["message"])
        self._check(clip, request, answer.raise_for_status().json()["text"])


async def _messages(http: httpx.AsyncClient, session: str) -> AsyncGenerator[dict[str, Any], None]:
    """What the page's stream tells about one session's runs."""
    async with http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        async for line in stream.raise_for_status().aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))

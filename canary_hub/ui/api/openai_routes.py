"""An OpenAI-compatible face beside the page: POST /v1/audio/transcriptions and GET /v1/models.

Starlette routes that `launch_settings` hands to gradio's server; they find the page they belong to by the app.
A model is a stack. Runs wait in the page's queue, see turns.py. With a login on the page, the API key is a
user's password.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ...errors import AudioError, HubError, OptionError
from ..server.uploads import own_folder
from ..widgets.runs import Moment
from .openai_form import Form, Refusal, form_of, read
from .openai_shapes import TEXTS, event, json_body, settled, verbose_body
from .turns import Busy, Gone, Turns

Endpoint = Callable[[Request], Awaitable[Response]]


def routes() -> list[Route]:
    """The routes, for a server whose app holds the page as `get_blocks()`."""
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return [
        Route("/v1/models", _answered(_models)),
        Route("/v1/audio/transcriptions", _answered(_transcriptions), methods=["POST"]),
        Route("/v1/{rest:path}", _answered(_unknown), methods=methods),
    ]


def _answered(endpoint: Endpoint) -> Endpoint:
    """`endpoint` for those who may use it, its refusals as responses."""

    async def answer(request: Request) -> Response:
        try:
            _check_key(request)
            return await endpoint(request)
        except Refusal as refusal:
            return refusal.response()
        except Busy as busy:
            return _refusal_when_busy(busy).response()
        except (Gone, ClientDisconnect):
            return Response(status_code=499)  # nobody reads it
        except Exception:
            logging.getLogger(__name__).exception("%s failed", request.url.path)
            message = "Something inside went wrong; the log of this server says more."
            return Refusal(500, message, "server_error").response()

    return answer


def _check_key(request: Request) -> None:
    """Raises: Refusal, on a page with a login, for a key that is nobody's password."""
    app = request.app
    if app.auth is None and app.auth_dependency is None:
        return
    key = request.headers.get("authorization", "").removeprefix("Bearer ").strip().encode()
    passwords = app.auth.values() if isinstance(app.auth, dict) else ()
    if not any(secrets.compare_digest(key, password.encode()) for password in passwords):
        message = "This page has a login. Give its password as the API key (Authorization: Bearer PASSWORD)."
        raise Refusal(401, message, code="invalid_api_key")


async def _models(request: Request) -> Response:
    stacks = Turns.of(request.app.get_blocks()).hub.registry.stacks
    found = [{"id": name, "object": "model", "created": 0, "owned_by": "canary_hub"} for name in stacks]
    return JSONResponse({"object": "list", "data": found})


async def _unknown(request: Request) -> Response:
    message = f"There is no {request.method} {request.url.path} here. There are POST /v1/audio/transcriptions "
    raise Refusal(404, f"{message}and GET /v1/models.", code="unknown_url")


async def _transcriptions(request: Request) -> Response:
    turns = Turns.of(request.app.get_blocks())
    turns.check_room(request.app.get_blocks())
    async with form_of(request) as data:
        form = read(data, turns.hub)
        moments = _run(request, turns, form)
        latest = await _begun(moments)
        if form.stream:
            return StreamingResponse(_events(latest, moments), media_type="text/event-stream")
        async with aclosing(moments):
            async for moment in moments:
                latest = moment
        return _response(form, latest)


async def _run(request: Request, turns: Turns, form: Form) -> AsyncGenerator[Moment, None]:
    """The moments of the run over the upload, which is kept as a file meanwhile. Raises: Refusal, Busy, Gone."""
    name = re.sub(r"[^\w.\- ]", "_", Path(form.upload.filename or "").name)
    name = name.encode()[-200:].decode("utf-8", "ignore").strip(". ") or "audio"  # a name has at most 255 bytes
    with TemporaryDirectory(prefix="openai-", dir=own_folder()) as folder:
        audio = Path(folder) / name
        with audio.open("wb") as file:
            await asyncio.to_thread(shutil.copyfileobj, form.upload.file, file)
        details = form.format == "verbose_json" and "word" in form.granularities
        async with aclosing(turns.moments(request, form.lane, str(audio), details)) as moments:
            async for moment in moments:
                if moment.state == "failed":
                    raise _refusal_after(moment)
                yield moment


async def _begun(moments: AsyncGenerator[Moment, None]) -> Moment:
    """The first moment of which the audio is read and the stack is loaded: what fails until then has a status."""
    async for moment in moments:
        if moment.records or moment.state == "done":
            return moment
    raise Refusal(500, "The run ended without a result.", "server_error")


async def _events(first: Moment, moments: AsyncGenerator[Moment, None]) -> AsyncGenerator[str, None]:
    """Server-sent events: what is added to the text, then the whole text, which is what counts."""
    sent, moment = "", first
    upcoming: Moment | None = first
    try:
        async with aclosing(moments):
            while upcoming is not None:
                moment = upcoming
                text = settled(moment)
                if text.startswith(sent) and text != sent:  # else a repetition was taken back
                    yield event({"type": "transcript.text.delta", "delta": text[len(sent) :]})
                    sent = text
                upcoming = await anext(moments, None)
        yield event({"type": "transcript.text.done", "text": moment.text})
    except Refusal as refusal:
        yield event(refusal.body)
    except Gone:
        return


def _response(form: Form, moment: Moment) -> Response:
    assert moment.result is not None
    if form.format in TEXTS:
        return PlainTextResponse(TEXTS[form.format]([moment.result]))
    if form.format == "json":
        return JSONResponse(json_body(moment.result, form.warnings))
    body = verbose_body(moment.result, form.warnings, form.granularities, form.language, form.temperature)
    return JSONResponse(body)


def _refusal_after(moment: Moment) -> Refusal:
    """What a failed run is to the client: its own fault, or the server's."""
    message = f"{moment.message} {moment.hint}".strip()
    error = moment.error or Exception
    if issubclass(error, AudioError):
        return Refusal(400, message, param="file", code="invalid_audio")
    if issubclass(error, OptionError):
        return Refusal(400, message)
    return Refusal(503 if issubclass(error, HubError) else 500, message, "server_error")


def _refusal_when_busy(busy: Busy) -> Refusal:
    if busy.whole:
        refusal = Refusal(503, str(busy), "server_error", code="overloaded")
    else:
        refusal = Refusal(429, str(busy), "rate_limit_error", code="rate_limit_exceeded")
    refusal.retry_seconds = busy.retry_seconds
    return refusal

"""A request to the OpenAI-compatible endpoint: its multipart form, read and checked; and refusals."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...audio.decode import Limits
from ...errors import HubError, OptionError, UnknownNameError
from ...hub import Hub
from ...lanes import Lane
from ...options import validate
from ...specs import Stage
from ..server.queue import RETRY_SECONDS
from .openai_shapes import FORMATS, error_body

FORM_BYTES = 1_000_000
"""Room for the other fields of a form and its boundaries."""
READ = {"file", "model", "response_format", "temperature", "stream", "timestamp_granularities[]"}
"""The fields that have an effect; of others the answer says that they have none."""


class Refusal(Exception):
    """An answer that is no transcript, in OpenAI's shape.

    retry_seconds: when a client may try again that was kept out (status 429 and 503).
    """

    retry_seconds = RETRY_SECONDS

    def __init__(
        self, status: int, message: str, kind: str = "invalid_request_error", param: str | None = None, code: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(message, kind, param, code or None)

    def response(self) -> Response:
        """As an HTTP response."""
        headers = {"retry-after": str(self.retry_seconds)} if self.status in (429, 503) else None
        return JSONResponse(self.body, self.status, headers)


@dataclass(frozen=True)
class Form:
    """The fields of a request, read and checked.

    granularities: of verbose_json: "segment", "word" or both.
    warnings: what was asked for and has no effect.
    """

    upload: UploadFile
    lane: Lane
    format: str
    granularities: tuple[str, ...]
    temperature: float
    language: str
    stream: bool
    warnings: tuple[str, ...]


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """The multipart form; files beyond the limit are refused while they arrive."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Refusal(400, "Send a multipart form with the fields file and model.")
    most = Limits.from_env().max_bytes + FORM_BYTES
    if int(request.headers.get("content-length", "0")) > most:
        raise _too_large()

    async def chunks() -> AsyncGenerator[bytes, None]:
        total = 0
        async for chunk in request.stream():
            total += len(chunk)
            if total > most:
                raise _too_large()
            yield chunk

    try:
        form = await MultiPartParser(request.headers, chunks(), max_files=1, max_fields=50).parse()
    except MultiPartException as error:
        raise Refusal(400, f"This form cannot be read: {error.message}") from error
    try:
        yield form
    finally:
        await form.close()


def _too_large() -> Refusal:
    megabytes = Limits.from_env().max_bytes / 1e6
    return Refusal(413, f"The file is larger than {megabytes:g} MB, the most that is taken here.", param="file")


def read(data: FormData, hub: Hub) -> Form:
    """Raises: Refusal for what is missing or cannot be had."""
    upload, model = data.get("file"), _text(data, "model")
    if not isinstance(upload, UploadFile):
        raise Refusal(400, "There is no file: send the audio as the field file.", param="file")
    if (upload.size or 0) > Limits.from_env().max_bytes:
        raise _too_large()
    try:
        stack = hub.registry.stack(model)
    except UnknownNameError as error:
        known = ", ".join(hub.registry.stacks)
        message = f"{error.message} The models here are {known}."
        raise Refusal(404, message, param="model", code="model_not_found") from error
    format = _text(data, "response_format", "json")
    if format not in FORMATS:
        raise Refusal(400, f"response_format is one of {', '.join(FORMATS)}.", param="response_format")
    stream = _text(data, "stream", "false").lower()
    if stream not in ("true", "false", "1", "0"):
        raise Refusal(400, "stream is true or false.", param="stream")
    if stream in ("true", "1") and format not in ("json", "text"):
        raise Refusal(400, "stream goes with response_format json or text.", param="stream")
    granularities = tuple(map(str, data.getlist("timestamp_granularities[]"))) or ("segment",)
    if not {"word", "segment"}.issuperset(granularities) or ("word" in granularities and format != "verbose_json"):
        message = "timestamp_granularities[] is word or segment, with response_format verbose_json."
        raise Refusal(400, message, param="timestamp_granularities[]")
    temperature = _temperature(data)
    if temperature:
        llm = hub.registry.component(stack.components[Stage.LLM], Stage.LLM)
        try:
            validate(llm.call_options, {"temperature": temperature}, llm.id)
        except OptionError as error:
            raise Refusal(400, _sentence(error), param="temperature") from error
    unused = sorted(name for name in set(data) - READ if data[name])
    return Form(
        upload=upload,
        lane=Lane(stack.name, options={f"{Stage.LLM}.temperature": temperature} if temperature else {}),
        format=format,
        granularities=granularities,
        temperature=temperature,
        language=_text(data, "language", "english"),
        stream=stream in ("true", "1"),
        warnings=tuple(f"{name} has no effect here." for name in unused),
    )


def _text(form: FormData, name: str, default: str = "") -> str:
    value = form.get(name)
    if not isinstance(value, str) or not value.strip():
        if not default:
            raise Refusal(400, f"The field {name} is missing.", param=name)
        return default
    return value.strip()


def _temperature(form: FormData) -> float:
    try:
        return float(_text(form, "temperature", "0"))
    except ValueError as error:
        raise Refusal(400, "temperature is a number, such as 0 or 0.2.", param="temperature") from error


def _sentence(error: HubError) -> str:
    return f"{error.message} {error.hint}".strip()

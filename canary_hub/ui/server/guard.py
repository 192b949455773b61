"""What stands before the page: headers for browsers, doors that are not used, and one visitor's share of requests."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .rates import Rate, rate_from_env
from .visitor import visitor

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # the address of a shared result is its secret
    "permissions-policy": "camera=(), geolocation=(), payment=(), usb=()",
}
PAGE_POLICY = "; ".join(
    (
        "default-src 'self'",
        # gradio's page begins with inline scripts, and makes functions of the js_on_load texts.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
"""For the page: nothing goes to or comes from another host. Any page may embed it, so there are no frame-ancestors."""
FILE_POLICY = "sandbox; default-src 'none'; media-src 'self'"
"""For uploads and downloads, which are a visitor's: opened as a page, they are nothing and may do nothing."""
CLOSED = (
    "/gradio_api/api/",  # another name of /run
    "/gradio_api/deep_link",  # keeps files that are never deleted, as does
    "/gradio_api/process_recording",
    "/gradio_api/file/",  # an older name of /file=, which fetches addresses too
    "/gradio_api/proxy=",
    # Behind a local proxy it gives the operator's token to whoever says "Host: localhost" (CVE-2026-134825).
    "/gradio_api/run-history",
)
"""gradio's routes that this page does not use."""
FETCHING = ("/gradio_api/file=http:", "/gradio_api/file=https:")
"""gradio fetches public addresses for everybody; this page is no proxy."""
COUNTED = ("/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/call/", "/v1/audio")
UPLOADS = ("/gradio_api/upload", "/v1/audio")
LIGHT = "/gradio_api/run/"
"""What the page asks by itself, as a visitor types or waits: nothing is computed, so many of them count as one."""
LIGHT_FOR_ONE = 10


class Guard:
    """ASGI middleware.

    requests, bytes: what one visitor may ask of the page and its APIs, and upload; None for no limit.
    """

    def __init__(self, app: ASGIApp, requests: Rate | None = None, bytes: Rate | None = None) -> None:
        self.app, self.requests, self.bytes = app, requests, bytes
        self.light = requests and Rate(requests.most * LIGHT_FOR_ONE, requests.seconds)

    @classmethod
    def from_env(cls) -> Middleware:
        """As CANARY_HUB_REQUESTS_PER_MINUTE and CANARY_HUB_UPLOAD_MB_PER_HOUR say. Raises: OptionError."""
        requests = rate_from_env("CANARY_HUB_REQUESTS_PER_MINUTE", None, 60)
        return Middleware(cls, requests, rate_from_env("CANARY_HUB_UPLOAD_MB_PER_HOUR", None, 3600, 1e6))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, with headers on its answer; or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        refusal = self._refusal(path, Request(scope))
        await (refusal or self.app)(scope, receive, _with_headers(path, send))

    def _refusal(self, path: str, request: Request) -> Response | None:
        plain = path.replace("//", "/")
        if plain.startswith(CLOSED) or plain.lower().startswith(FETCHING):
            return PlainTextResponse("This page does not offer that.", 403)
        if request.method != "POST" or not path.startswith((*COUNTED, LIGHT)):
            return None
        who = visitor(request)
        rate = self.light if path.startswith(LIGHT) else self.requests
        if rate is not None and (seconds := rate.wait(who)):
            return _too_much("requests", seconds)
        if self.bytes is not None and path.startswith(UPLOADS):
            length = request.headers.get("content-length", "")
            if not length.isdecimal():
                return PlainTextResponse("An upload has to say its length.", 411)
            if seconds := self.bytes.wait(who, int(length)):
                return _too_much("uploads", seconds)
        return None


def _too_much(what: str, seconds: int) -> JSONResponse:
    message = f"These are more {what} than one visitor may send. Try again in {seconds} seconds."
    # gradio's client shows one or the other; OpenAI's clients show what they find.
    return JSONResponse({"error": message, "detail": message}, 429, {"retry-after": str(seconds)})


def _with_headers(path: str, send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            if path.startswith("/gradio_api/file"):
                headers["content-security-policy"] = FILE_POLICY
            elif headers.get("content-type", "").startswith("text/html"):
                headers["content-security-policy"] = PAGE_POLICY
        await send(message)

    return sent

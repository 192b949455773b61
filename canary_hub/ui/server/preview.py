"""What messengers show of a link to the page: our title and description instead of gradio's."""

from __future__ import annotations

from html import escape
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .gradio_inside import META

TITLE = "canary_hub"
DESCRIPTION = "Try, take apart and compare speech-LLMs of the Canary-Qwen kind."
_OURS = "".join(
    f'<meta {kind}="{name}" content="{escape(content)}" />'
    for kind, name, content in (
        ("name", "description", DESCRIPTION),
        ("property", "og:type", "website"),
        ("property", "og:title", TITLE),
        ("property", "og:description", DESCRIPTION),
        ("name", "twitter:card", "summary"),
    )
).encode()


class OwnPreview:
    """ASGI middleware that exchanges these tags in the page's own HTML."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through but the HTML of "/"."""
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) not in ("", "/"):
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def exchange(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_html(message["headers"]):
                start = message
            elif start is None or message["type"] != "http.response.body":
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    html = tagged(body)
                    headers = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
                    await send({**start, "headers": [*headers, (b"content-length", str(len(html)).encode())]})
                    await send({**message, "body": html})

        await self.app(scope, receive, exchange)


def tagged(html: bytes) -> bytes:
    """A page with our tags instead of gradio's."""
    return META.sub(b"", html).replace(b"<head>", b"<head>" + _OURS, 1)


def _is_html(headers: Any) -> bool:
    return any(k.lower() == b"content-type" and v.startswith(b"text/html") for k, v in headers)

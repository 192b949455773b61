"""What messengers show of a link to the page: our title and description instead of gradio's."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .gradio_inside import META


class OwnPreview:
    """ASGI middleware that puts `tags` in the place of gradio's in the page's own HTML."""

    def __init__(self, app: ASGIApp, tags: str) -> None:
        self.app, self.tags = app, tags.encode()

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
                    html = META.sub(b"", body).replace(b"<head>", b"<head>" + self.tags, 1)
                    headers = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
                    await send({**start, "headers": [*headers, (b"content-length", str(len(html)).encode())]})
                    await send({**message, "body": html})

        await self.app(scope, receive, exchange)


def _is_html(headers: Any) -> bool:
    return any(k.lower() == b"content-type" and v.startswith(b"text/html") for k, v in headers)

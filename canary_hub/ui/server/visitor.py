"""Who a request comes from, as far as limits for one visitor go."""

from __future__ import annotations

import os
import secrets
from typing import Any

from ...settings import number

SECRET = secrets.token_urlsafe()
"""Known to this process alone."""
CALLER = "x-canary-hub-caller"
"""The header with which this process tells itself who called an MCP tool: the secret, then the visitor."""


def trusted_proxies() -> int:
    """How many proxies stand before the page, each of which appends to X-Forwarded-For who it was asked by.

    CANARY_HUB_TRUSTED_PROXIES; by default 1 on a Space, else 0. Raises: OptionError.
    """
    default = 1 if os.environ.get("SPACE_ID") else 0
    return int(number("CANARY_HUB_TRUSTED_PROXIES", default, integer=True, zero=True))


def visitor(request: Any) -> str:
    """The address a request comes from.

    Only what trusted proxies have appended to X-Forwarded-For counts: what comes before it, anybody may have written.
    A request that has not come through all of them counts as its own connection's.
    """
    secret, _, caller = request.headers.get(CALLER, "").partition(" ")
    if caller and secrets.compare_digest(secret.encode(), SECRET.encode()):
        return str(caller)
    proxies = trusted_proxies()
    headers = request.headers
    sent = headers.getlist("x-forwarded-for") if hasattr(headers, "getlist") else [headers.get("x-forwarded-for", "")]
    entries = [entry.strip() for entry in ",".join(sent).split(",")]
    if 0 < proxies <= len(entries) and entries[-proxies]:
        return entries[-proxies]
    return request.client.host if request.client else ""


def caller_headers(request: Any) -> dict[str, str]:
    """What to add to a request of this process to itself, so that it counts as the one that it answers."""
    return {CALLER: f"{SECRET} {visitor(request)}"}

"""The page. Only this folder may import gradio; nothing here asks anything outside this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..audio.decode import Limits
from ..hub import Hub
from ..settings import default_stack, read_settings

if TYPE_CHECKING:
    import gradio as gr

__all__ = ["build_demo", "launch_settings", "prepare"]

SESSIONS = 256
"""Visits whose state is kept, the latest ones: each takes half a megabyte, and every call of the API is one."""


def prepare(folder: Path) -> None:
    """What has to happen before anything else on a Space: its settings (space.env), and ZeroGPU's `spaces`.

    Raises: OptionError for a setting that cannot be read.
    """
    from .widgets.zerogpu import begin

    read_settings(folder)
    begin()


def build_demo(hub: Hub | None = None, stack: str | None = None, *, warm: bool = False) -> gr.Blocks:
    """The page as gradio Blocks, ready to launch with `launch_settings()`.

    Args:
        hub: what is installed; found anew by default.
        stack: the stack that is picked first; CANARY_HUB_STACK, else nano, by default.
        warm: start loading that stack in the background, if that needs no download; on ZeroGPU load it now.

    Raises: UnknownNameError when there is no such stack; HubError for a gradio that lacks what the page needs.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
    # Of so many runs gradio keeps times for its own page, and goes through all of them after each run: not 10,000.
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")
    # uvicorn would take the address of whoever connects from this machine (a tunnel) from what that one sends.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    from .server.uploads import own_folder

    own_folder()  # before gradio asks where to keep uploads
    from .server.gradio_inside import check, fetch_nothing

    check()
    fetch_nothing()
    from .page import page
    from .widgets.loading import warm_up
    from .widgets.zerogpu import load_all, on_zerogpu

    hub = hub or Hub()
    first = hub.registry.stack(stack or default_stack())
    if warm and on_zerogpu():
        load_all(hub, first)
    elif warm:
        warm_up(hub, first)
    return page(hub, first.name)


def launch_settings() -> dict[str, Any]:
    """Arguments for `Blocks.launch`: looks, limits, the OpenAI endpoint, and nothing of a visitor kept."""
    from starlette.middleware import Middleware

    from .api.openai_routes import routes
    from .server.guard import Guard
    from .server.preview import OwnPreview
    from .widgets.looks import CSS, HEAD, theme
    from .widgets.templates import render

    preview = Middleware(OwnPreview, tags=render("page/preview.html"))
    return {
        "theme": theme(),
        "css": CSS,
        "head": HEAD,
        "show_error": True,
        "footer_links": ["api", "settings"],
        "run_history": False,
        "ssr_mode": False,
        "state_session_capacity": SESSIONS,
        "max_file_size": Limits.from_env().max_bytes,
        "app_kwargs": {
            "routes": routes(),
            "middleware": [Guard.from_env(), preview],
        },
    }

"""The page. Only this folder may import gradio; nothing here asks anything outside this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..audio import Limits
from ..hub import Hub, default_stack

if TYPE_CHECKING:
    import gradio as gr

__all__ = ["build_demo", "launch_settings"]


def build_demo(hub: Hub | None = None, stack: str | None = None, *, warm: bool = False) -> gr.Blocks:
    """The page as gradio Blocks, ready to launch with `launch_settings()`.

    Args:
        hub: what is installed; found anew by default.
        stack: the stack that is picked first; CANARY_HUB_STACK, else nano, by default.
        warm: start loading that stack in the background, if that needs no download.

    Raises: UnknownNameError when there is no such stack.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
    from .loading import warm_up
    from .page import page

    hub = hub or Hub()
    first = hub.registry.stack(stack or default_stack())
    if warm:
        warm_up(hub, first)
    return page(hub, first.name)


def launch_settings() -> dict[str, Any]:
    """Arguments for `Blocks.launch`: looks, limits, and nothing of a visitor kept."""
    from .looks import CSS, HEAD, theme

    return {
        "theme": theme(),
        "css": CSS,
        "head": HEAD,
        "show_error": True,
        "footer_links": ["api", "settings"],
        "run_history": False,
        "ssr_mode": False,
        "max_file_size": Limits.from_env().max_bytes,
    }

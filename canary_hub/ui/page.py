"""The page: a heading and the tabs."""

from __future__ import annotations

import gradio as gr

from ..hub import Hub
from ..share.store import SharedResults
from .api.endpoints import endpoints
from .api.turns import Turns
from .compare.tab import CompareTab
from .explore.tab import ExploreTab
from .registry import registry_tab
from .server.queue import QueueLimits, queued
from .server.uploads import keep_deleting, own_folder
from .server.visitor import trusted_proxies
from .share.permalink import Permalink
from .share.view import SharedView
from .transcribe.tab import TranscribeTab
from .widgets.events import Waiting
from .widgets.templates import render

KEEP_SECONDS = 3600
"""Uploads are deleted once they are this old."""


def page(hub: Hub, first: str) -> gr.Blocks:
    """All of it, as Blocks; `first` names the stack that is picked at the start.

    Raises: OptionError for an unusable setting.
    """
    trusted_proxies()  # every request asks for it
    shared = SharedResults.from_env()
    keep_deleting(own_folder(), KEEP_SECONDS, KEEP_SECONDS / 4)
    if shared:
        shared.keep_removing()
    with gr.Blocks(title="canary_hub", analytics_enabled=False, delete_cache=(KEEP_SECONDS // 4, KEEP_SECONDS)) as demo:
        gr.HTML(render("page/heading.html"))
        link = Permalink(hub)
        opened = SharedView(shared) if shared else None
        waiting = Waiting(demo)
        with gr.Tabs() as tabs:
            with gr.Tab("Transcribe", id="transcribe") as first_tab:
                transcribe = TranscribeTab(hub, first, shared, waiting)
            with gr.Tab("Compare", id="compare") as second_tab:
                compare = CompareTab(hub, first, shared, waiting)
            with gr.Tab("Explore", id="explore"):
                ExploreTab(hub, first, waiting)
            with gr.Tab("Registry", id="registry"):
                registry_tab(hub)
        if opened:
            opened.listen()
        link.listen(demo, tabs, {"transcribe": first_tab, "compare": second_tab}, transcribe, compare, opened)
        gr.HTML(render("page/embed.html"))
        gr.HTML(render("page/privacy.html", hours=2 * KEEP_SECONDS // 3600))
        endpoints(hub, first)
        Turns(hub)
    return queued(demo, QueueLimits.from_env())

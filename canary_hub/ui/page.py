"""The page: a heading and the tabs."""

from __future__ import annotations

import gradio as gr

from ..hub import Hub
from ..share.store import SharedResults
from .api.components import components_endpoint
from .api.endpoints import endpoints
from .api.inspect import inspect_endpoint
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

KEEP_SECONDS = 3600
"""Uploads are deleted once they are this old."""

HEADING = """<header class="ch-heading"><h1>canary_hub</h1>
<p>Upload or record speech, and read what a speech-LLM makes of it.</p>
<button type="button" class="ch-copy" data-copy-link="">Copy link</button></header>"""

EMBED = """<details id="embed" class="ch-fold"><summary>Embed this page</summary>
<p>The link and the frame keep what is picked here. <button type="button" class="ch-copy" data-embed="iframe">Copy
iframe</button> <button type="button" class="ch-copy" data-embed="app">Copy gradio-app</button></p></details>"""

PRIVACY = f"""<p class="ch-privacy">Audio stays on the machine that runs this page and is deleted from it
within {2 * KEEP_SECONDS // 3600} hours, unless you share it with a result. Nothing is tracked.</p>"""


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
        gr.HTML(HEADING)
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
        gr.HTML(EMBED)
        gr.HTML(PRIVACY)
        endpoints(hub, first)
        inspect_endpoint(hub, first)
        components_endpoint(hub)
        Turns(hub)
    return queued(demo, QueueLimits.from_env())

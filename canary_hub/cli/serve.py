"""`canary-hub serve`: the page."""

from __future__ import annotations

from typing import Any

import click

from .choices import hub_of, plugin_choice, plugin_options


@click.command()
@click.option("--stack", metavar="NAME", help="The stack picked first; CANARY_HUB_STACK, else nano.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on; 127.0.0.1, or GRADIO_SERVER_NAME.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port; GRADIO_SERVER_PORT, else the first free from 7860.")
@click.option("--share", is_flag=True, help="Also ask gradio for a public link, through its servers.")
@plugin_options
@click.pass_context
def serve(ctx: click.Context, /, **given: Any) -> None:
    """Open the page on this machine."""
    stack, host, port, share = (given.pop(name) for name in ("stack", "host", "port", "share"))
    hub = hub_of(ctx, **plugin_choice(given))
    from ..ui import build_demo, launch_settings

    demo = build_demo(hub, stack, warm=True)
    try:
        demo.launch(server_name=host, server_port=port, share=share, **launch_settings())
    except OSError as error:
        taken = f"Port {port} is taken, or not yours to use." if port else str(error)
        raise click.ClickException(f"The page cannot be served. {taken}") from error

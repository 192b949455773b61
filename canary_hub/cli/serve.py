"""`canary-hub serve`: the page, and the APIs beside it."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import click

from ..errors import HubError, OptionError
from .choices import hub_of, plugin_choice, plugin_options


@click.command()
@click.option("--stack", metavar="NAME", help="The stack picked first; CANARY_HUB_STACK, else nano.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on; 127.0.0.1, or GRADIO_SERVER_NAME.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port; GRADIO_SERVER_PORT, else the first free from 7860.")
@click.option(
    "--auth",
    metavar="USER:PASSWORD",
    envvar="CANARY_HUB_AUTH",
    help="Ask for a login; CANARY_HUB_AUTH keeps it out of the list of processes.",
)
@click.option("--root-path", metavar="PATH", help="Where a proxy in front serves the page, such as /canary.")
@click.option(
    "--max-file-size",
    type=click.FloatRange(0, min_open=True),
    metavar="MB",
    help="Largest audio file; CANARY_HUB_MAX_FILE_MB, else 500.",
)
@click.option(
    "--queue", type=click.IntRange(1), metavar="RUNS", help="How many runs may wait; CANARY_HUB_QUEUE, else 64."
)
@click.option("--share", is_flag=True, help="Also ask gradio for a public link, through its servers.")
@click.option("--mcp", is_flag=True, help="Also offer transcribe, compare and components as MCP tools.")
@plugin_options
@click.pass_context
def serve(ctx: click.Context, /, **given: Any) -> None:
    """Open the page on this machine, and an OpenAI-compatible API under /v1."""
    stack, host, port, auth, root_path, megabytes, waiting, share, mcp = (
        given.pop(name)
        for name in ("stack", "host", "port", "auth", "root_path", "max_file_size", "queue", "share", "mcp")
    )
    login = _login(auth)
    if mcp:
        _check_mcp(login is not None)
    # Every part of the page reads its limits from the environment, and so do the processes of its runs.
    for variable, value in (("CANARY_HUB_MAX_FILE_MB", megabytes), ("CANARY_HUB_QUEUE", waiting)):
        if value is not None:
            os.environ[variable] = str(value)
    hub = hub_of(ctx, **plugin_choice(given))
    from ..ui import build_demo, launch_settings

    demo = build_demo(hub, stack, warm=True)
    try:
        _, address, public = demo.launch(
            server_name=host,
            server_port=port,
            auth=login,
            root_path=root_path,
            share=share,
            mcp_server=mcp,
            prevent_thread_lock=True,
            **launch_settings(),
        )
    except OSError as error:
        taken = f"Port {port} is taken, or not yours to use." if port else str(error)
        raise click.ClickException(f"The page cannot be served. {taken}") from error
    if mcp:
        from ..ui.api.endpoints import offer_tools

        offer_tools(demo)
    if share and not public:
        click.echo(f"There is no public link: gradio's tunnel could not be had. The page runs at {address}", err=True)
    click.echo(f"* OpenAI-compatible API: {public or address.rstrip('/')}/v1")
    demo.block_thread()


def _login(auth: str | None) -> tuple[str, str] | None:
    """Raises: OptionError for what is no USER:PASSWORD."""
    if auth is None:
        return None
    user, _, password = auth.partition(":")
    if not user.strip() or not password:
        raise OptionError("--auth is no USER:PASSWORD.", "For example: --auth ada:correct-horse")
    return user.strip(), password


def _check_mcp(login: bool) -> None:
    """Raises: HubError when MCP tools cannot be offered."""
    if login:  # gradio 6.31 answers MCP requests without asking for the login
        raise HubError("--mcp would be open to everybody in spite of --auth.", "Leave one of them out.")
    if importlib.util.find_spec("mcp") is None:
        raise HubError("--mcp needs the mcp package.", 'Install it: pip install "canary-hub[mcp]"')

"""The page on a real server of this process, for the tests of its APIs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import ROOT

from canary_hub import Hub
from canary_hub.ui import build_demo, launch_settings

DIGITS = ROOT / "tests" / "digits"
STACKS = ROOT / "tests" / "browser" / "plugins"
"""Stacks `tiny` and `endless`, which writes until it is stopped."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def served(**settings: Any) -> Iterator[str]:
    """Its address."""
    port = free_port()
    demo = build_demo(Hub(STACKS), "nano")
    settings = {**launch_settings(), "server_name": "127.0.0.1", "server_port": port, "quiet": True, **settings}
    demo.launch(prevent_thread_lock=True, **settings)
    yield f"http://127.0.0.1:{port}"
    demo.close()


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[str, str]]:
    """`canary-hub serve` as a program of its own: its address and what it printed. No tunnel can be had."""
    port = free_port()
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "HF_HOME": str(folder)}
    environment = {**os.environ, **nowhere, "GRADIO_TEMP_DIR": str(folder), "PYTHONUNBUFFERED": "1"}
    log = folder / "log.txt"
    command = [sys.executable, "-m", "canary_hub.cli", "serve", "--port", str(port), *options]
    with log.open("w") as out:
        program = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        for _ in range(600):
            if "OpenAI-compatible" in log.read_text() or program.poll() is not None:
                break
            time.sleep(0.1)
        assert program.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}", log.read_text()
    finally:
        program.kill()
        program.wait()


def endless_steps() -> list[int]:
    """How many steps each decoding of stack `endless` has made."""
    return sys.modules["canary_hub_plugin_page_stacks"].STEPS

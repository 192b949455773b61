"""A stand-in for ZeroGPU: the API that hands out GPUs, on the loopback, and the CPU in the place of the GPU.

Run as a program it starts app.py of the current folder with PyPI's `spaces` switched on. What `spaces` does is done:
the pretence that CUDA is there while models are loaded, the fork, what goes in and out. Only the forked process has
no GPU: there the pretence goes on, which computes on the CPU and refuses to mix tensors of both devices.
"""

from __future__ import annotations

import json
import runpy
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class ZeroGpuServer(ThreadingHTTPServer):
    """Hands out a GPU, or refuses: `answer` is "yes", "busy", "quota" or "too long".

    asked: seconds, by request; tokens: of the visitor each was for. calls: paths, in their order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.answer = "yes"
        self.asked: list[int] = []
        self.tokens: list[str | None] = []
        self.calls: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class Answers(BaseHTTPRequestHandler):
    """One request."""

    server: ZeroGpuServer

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        self.server.calls.append(url.path)
        if url.path != "/schedule":
            return self.reply(200, "{}")
        query = parse_qs(url.query)
        self.server.asked.append(int(query["durationSeconds"][0]))
        self.server.tokens.append(query.get("token", [None])[0])
        if self.server.answer == "busy":
            return self.reply(200, "event: failed\n\n", "text/event-stream")
        if self.server.answer != "yes":
            wait = 7200 if self.server.answer == "quota" else -1
            return self.reply(429, json.dumps({"left": 3, "wait": wait}))
        return self.reply(
            200, json.dumps({"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "token"})
        )

    def reply(self, status: int, body: str, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(body.encode())


def start_app() -> None:
    """app.py with the CPU in the place of the GPU."""
    import torch

    if torch.version.cuda is None:  # a build without CUDA has nothing that could be replaced
        torch.version.cuda = "12.8"
        torch._C._cuda_init = lambda: None
        torch.cuda._is_in_bad_fork = bool
    from spaces.zero import torch as device
    from spaces.zero import wrappers
    from torch.utils._pytree import register_pytree_node

    # The pretence overlooks tensors within slices, which only matters as it goes on while the model runs.
    register_pytree_node(slice, lambda s: ([s.start, s.stop, s.step], None), lambda ends, _: slice(*ends))
    device.pack, device.size = lambda: 1, lambda: 0
    device.unpatch = device.init = device.move = lambda *args, **kwargs: None
    wrappers.ThreadPoolExecutor = partial(ThreadPoolExecutor, initializer=device.enter_mode)
    runpy.run_path("app.py", run_name="__main__")


if __name__ == "__main__":
    start_app()

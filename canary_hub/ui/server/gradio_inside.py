"""The one place that touches gradio's inside: names, files and ways that gradio promises to nobody.

`check` runs before a page is built and says what is gone. A version that passes it and the tests may be added to
`CHECKED` and to the pin in pyproject.toml.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import anyio
import gradio as gr
from starlette.requests import Request

from ...errors import HubError

CHECKED = "6.30 and 6.31"

PLAY = ".play-pause-button:has(polygon)"
"""Selects the Play button of a player in the browser: by the triangle on it, since its label is in the visitor's
language, and since it shows two bars while it plays."""

META = re.compile(rb'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>')
"""The tags in the HTML of `/` that say what messengers show of a link."""

NAMES = {
    "gradio.processing_utils": (
        "async_ssrf_protected_get",
        "async_ssrf_protected_download",
        "async_move_files_to_cache",
        "save_bytes_to_cache",
    ),
    "gradio.data_classes": ("PredictBodyInternal",),
    "gradio.queueing": ("Event", "EventQueue", "ProcessTime", "Queue.push", "Queue.clean_events"),
    "gradio.state_holder": ("StateHolder",),
}
"""Module -> what is used of it."""
FIELDS = {
    "Blocks": ("_queue", "fns"),
    "Queue": (
        "active_jobs",
        "broadcast_estimations",
        "event_queue_per_concurrency_id",
        "max_size",
        "pending_event_ids_session",
        "pending_messages_per_session",
        "process_time_per_fn",
    ),
    "EventQueue": ("concurrency_id", "current_concurrency", "queue"),
    "Event": ("alive", "concurrency_id", "request", "session_hash"),
    "ProcessTime": ("count", "process_time"),
    "StateHolder": ("session_data", "time_last_used"),
}
"""Class -> what is used of its objects."""
TEXTS = {
    "routes.py": "._queue.push(\n                body=body, request=request, username=username",
    "templates/frontend/index.html": "<head>",
    "templates/frontend/assets/StaticAudio-*.js": "play-pause-button",
    "templates/frontend/assets/src-*.js": '<polygon points="5 3 19 12 5 21 5 3">',
}
"""Files -> what stands in one of them: that runs enter the queue by `push`, the page's head, and the Play button."""
MCP = ("postprocess_output_data", "tool_prefix", "tool_to_endpoint", "_prepare_tool_call_args")
"""What is used of a page's MCP server, which is there only once a page was launched with one."""


class FetchRefusedError(gr.Error):
    """What a request is told that names its audio by address."""


def check() -> None:
    """Raises: HubError, in one sentence, for the first thing that this gradio lacks."""
    for module, names in NAMES.items():
        for name in names:
            try:
                reduce(getattr, name.split("."), importlib.import_module(module))
            except (ImportError, AttributeError) as error:
                raise _gone(f"{module}.{name}") from error
    for name, instance in _instances().items():
        _require(instance, name, FIELDS[name])
    folder = Path(inspect.getfile(gr)).parent
    for files, text in TEXTS.items():
        if not any(text in file.read_text("utf-8") for file in folder.glob(files)):
            raise _gone(f"{' '.join(text.split())!r} in {files}")
    if not META.search((folder / "templates/frontend/index.html").read_bytes()):
        raise _gone("description for messengers in its index.html")


def _instances() -> dict[str, Any]:
    """One object of every class in `FIELDS`."""
    queueing, states = (importlib.import_module(f"gradio.{name}") for name in ("queueing", "state_holder"))
    with gr.Blocks(analytics_enabled=False) as demo:
        pass
    return {
        "Blocks": demo,
        "Queue": getattr(demo, "_queue", None),
        "EventQueue": queueing.EventQueue("x", 1),
        "Event": queueing.Event("x", SimpleNamespace(concurrency_id="x"), None, None),
        "ProcessTime": queueing.ProcessTime(),
        "StateHolder": states.StateHolder(),
    }


def _require(instance: Any, name: str, fields: Iterable[str]) -> None:
    for field in fields:
        if not hasattr(instance, field):
            raise _gone(f"{name}.{field}")


def _gone(what: str) -> HubError:
    return HubError(
        f"This page needs what gradio {gr.__version__} does not have: {what} (it was checked with gradio {CHECKED})."
    )


# Addresses


def fetch_nothing() -> None:
    """Has gradio refuse a request that names its audio by address, for every page of this process.

    It would download what anybody asks for: the whole of it in memory, past the limits of uploads.
    Raises: HubError where gradio still would.
    """
    from gradio import processing_utils

    async def refuse(url: str, *rest: Any, **more: Any) -> NoReturn:
        raise FetchRefusedError("This page fetches nothing: upload the file.")

    for name in ("async_ssrf_protected_get", "async_ssrf_protected_download"):
        if not hasattr(processing_utils, name):
            raise _gone(f"gradio.processing_utils.{name}")
        setattr(processing_utils, name, refuse)
    # As a request does it; the address leads nowhere.
    file = {"path": "http://canary-hub.invalid/probe.flac", "meta": {"_type": "gradio.FileData"}}
    with gr.Blocks(analytics_enabled=False):
        player = gr.Audio()
    if not _refuses(processing_utils.async_move_files_to_cache(file, player, check_in_upload_folder=True)):
        raise HubError(
            f"gradio {gr.__version__} would fetch the addresses that visitors name: its download could not be "
            f"replaced (it was checked with gradio {CHECKED})."
        )


def _refuses(work: Coroutine[Any, Any, object]) -> bool:
    """Whether it refuses at its first step. It gets no event loop, so nothing can be fetched meanwhile."""
    try:
        work.send(None)
    except FetchRefusedError:
        return True
    except Exception:
        return False
    finally:
        work.close()
    return False


# Files


def keep_file(content: bytes, name: str, component: gr.components.Component) -> str:
    """The path of a file that the page may send, deleted in time as uploads are."""
    from gradio.processing_utils import save_bytes_to_cache

    path: str = save_bytes_to_cache(content, name, component.GRADIO_CACHE)
    return path


# The queue

Answer = tuple[bool, Any, str]
"""Whether a run has entered, its id or why not, and "success", "error" or "queue_full"."""
GoIn = Callable[[], Awaitable[Answer]]


def queue_of(demo: Any) -> Any:
    """A page's queue."""
    return demo._queue


def guard_queue(demo: gr.Blocks, enter: Callable[[GoIn, Any, Any], Awaitable[Answer]]) -> None:
    """Every run of the page, client or curl enters its queue through `enter`.

    enter: gets what lets the run in, the concurrency id of what is to run, and the request.
    """
    queue: Any = demo._queue
    push = queue.push

    async def enter_guarded(body: Any, request: Any, username: str | None) -> Answer:
        async def go_in() -> Answer:
            answer: Answer = await push(body=body, request=request, username=username)
            return answer

        fn = demo.fns.get(body.fn_index)
        return await enter(go_in, getattr(fn, "concurrency_id", None), request)

    queue.push = enter_guarded


def lines(queue: Any) -> Iterator[list[Any]]:
    """The events that wait, line by line (a line is what shares a concurrency id); each list may be sorted."""
    return (line.queue for line in queue.event_queue_per_concurrency_id.values())


def events(queue: Any) -> Iterator[Any]:
    """Everything that waits or is in work and has not been given up; each has concurrency_id, request, session_hash."""
    running = (event for job in queue.active_jobs for event in job or ())
    return (event for event in (*(event for line in lines(queue) for event in line), *running) if event.alive)


def reorder(queue: Any, sort: Callable[[list[Any]], None]) -> None:
    """Sort every line in place, and tell those who wait of their new places."""
    for line in queue.event_queue_per_concurrency_id.values():
        before = list(line.queue)
        sort(line.queue)
        if line.queue != before:
            queue.broadcast_estimations(line.concurrency_id)


def runs_before(queue: Any, session: str) -> int | None:
    """How many runs come before a session's next one, that in work included; None when none of it waits."""
    for line in queue.event_queue_per_concurrency_id.values():
        for before, event in enumerate(line.queue):
            if event.session_hash == session:
                return before + int(line.current_concurrency)
    return None


def mean_seconds(queue: Any) -> float | None:
    """How long a run has taken on average; None before the first has ended."""
    times = queue.process_time_per_fn.values()
    count = sum(each.count for each in times)
    return sum(each.process_time for each in times) / count if count else None


async def push_private(demo: gr.Blocks, owner: object, key: str, request: Request) -> Answer:
    """Queue the event whose function is a method of `owner`, with `key` as its one input and its session."""
    from gradio.data_classes import PredictBodyInternal

    number = next(number for number, event in demo.fns.items() if getattr(event.fn, "__self__", None) is owner)
    # gradio builds addresses from the path of a request, and knows its own paths only.
    inner = Request({**request.scope, "path": "/gradio_api/queue/join"})
    body = PredictBodyInternal(data=[key], fn_index=number, session_hash=key, request=inner)
    answer: Answer = await demo._queue.push(body=body, request=inner, username=None)
    return answer


async def forget_session(demo: Any, session: str) -> None:
    """End what a session has waiting, and drop what gradio keeps of it; the state alone is half a megabyte."""
    with anyio.CancelScope(shield=True):  # the server cancels whom the client has left
        await demo._queue.clean_events(session_hash=session)
    demo._queue.pending_messages_per_session.pop(session, None)
    demo._queue.pending_event_ids_session.pop(session, None)
    demo.state_holder.session_data.pop(session, None)
    demo.state_holder.time_last_used.pop(session, None)


# MCP


def offer_tools(demo: gr.Blocks, names: Iterable[str], headers: Callable[[Any], dict[str, str]]) -> None:
    """Let a page that was launched with `mcp_server=True` offer these endpoints alone, and answer with JSON.

    gradio offers every public endpoint under the name of its function, writes what is no text as Python shows it,
    and asks its own server for every answer.

    headers: what it then adds to its request, from the caller's.
    Raises: HubError.
    """
    server: Any = getattr(demo, "mcp_server_obj", None)
    _require(server, "mcp_server_obj", MCP)
    server.tool_to_endpoint = {f"{server.tool_prefix}{name}": f"/{name}" for name in names}
    as_content, prepare = server.postprocess_output_data, server._prepare_tool_call_args

    def as_json(data: list[Any], root_url: str) -> Any:
        return as_content([value if isinstance(value, str) else _json(value) for value in data], root_url)

    def prepare_for_caller(name: str, arguments: dict[str, Any]) -> Any:
        endpoint, values, sent, fn = prepare(name, arguments)
        return endpoint, values, {**sent, **headers(server.mcp_server.request_context.request)}, fn

    server.postprocess_output_data, server._prepare_tool_call_args = as_json, prepare_for_caller


def _json(value: Any) -> str:
    plain = value.model_dump() if hasattr(value, "model_dump") else value
    return json.dumps(plain, ensure_ascii=False)

"""Bad input through Python, the page, the command line and the API: a transcript, or one clear sentence.

The files are those of corpus.py. What reads them runs in a process of its own where memory, or what is written,
is looked at.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import served

from canary_hub import Hub
from canary_hub.audio.waveform import printable
from canary_hub.errors import HubError
from canary_hub.lanes import Lane
from canary_hub.pipeline import Stack
from canary_hub.ui.widgets import html as results
from canary_hub.ui.widgets import runs

sys.path.append(str(Path(__file__).parent))
from corpus import HTML, Case, make, sample
from watched import watched

SECONDS = 600.0
"""How long audio may be here: 38 MB as float32 at 16 kHz."""
EXTRA = 160e6
"""Bytes that reading one input may take on top of the program itself. An array that is turned into a longer one is
held twice for a moment."""
EVERY = 10_000


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    made = make(tmp_path_factory.mktemp("corpus") / "files")
    assert len(made) >= 200
    return made


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_HUB_MAX_SECONDS", f"{SECONDS:g}")


@pytest.fixture(scope="module")
def stack(hub: Hub) -> Iterator[Stack]:
    with hub.load("nano", device="cpu") as loaded:
        yield loaded


def unclear(message: str, hint: str, name: str) -> str | None:
    """What is wrong with an error's words, None for nothing."""
    if name not in message:
        return f"does not name {name!r}"
    if not message.endswith(".") or not hint.endswith((".", ")")) or len(message) > 400:
        return "is no sentence with a remedy"
    if "Traceback" in message or any(not c.isprintable() for c in message + hint):
        return "is not fit to be shown"
    return None


def wrong(case: Case, message: str | None, hint: str = "") -> str | None:
    """What is wrong with an answer: a transcript (None), or an error's message."""
    if message is None:
        return "was not refused" if case.refused else None
    return "was refused" if case.refused is False else unclear(message, hint, printable(case.path.name))


def outside(notes: Path, *allowed: Path) -> tuple[list[str], int]:
    """Where the watched program wrote outside `allowed`, and its memory in bytes."""
    *places, peak = notes.read_text().splitlines()
    roots = (*map(str, allowed), "/dev/null", "/dev/tty", "/proc/self/", "/dev/shm/")
    return [place for place in map(json.loads, places) if not place.startswith(roots)], int(peak)


@pytest.mark.timeout(900)
def test_decoding(cases: list[Case], whole: bool, tally: Callable[..., None], tmp_path: Path) -> None:
    """Each input in bounded time and memory, and nothing is written but temporary files."""
    chosen = cases if whole else sample(cases, 80)
    work = tmp_path / "work"
    work.mkdir()
    paths = json.dumps([str(case.path) for case in chosen])
    done, notes = watched(work, "decode", f"{SECONDS:g}", timeout=800, stdin=paths)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    outcomes = json.loads(done.stdout)
    found = []
    for case, outcome in zip(chosen, outcomes, strict=True):
        problem = f"raised {outcome['raised']}" if "raised" in outcome else None
        problem = problem or wrong(case, outcome.get("message"), outcome.get("hint", ""))
        if outcome["took"] > 60:
            problem = f"took {outcome['took']:.0f} s"
        if outcome["bytes"] > EXTRA:
            problem = f"took {outcome['bytes'] / 1e6:.0f} MB"
        if problem:
            found.append((case.path.name, problem, outcome))
    assert not found
    assert max(outcome["children"] for outcome in outcomes) < 500e6  # ffmpeg's
    assert outside(notes, work)[0] == []
    tally("files decoded", len(chosen))


@pytest.mark.timeout(1800)
def test_python_and_page(cases: list[Case], stack: Stack, hub: Hub, whole: bool, tally: Callable[..., None]) -> None:
    """`Stack.transcribe` and a run of the page say the same, and what the page shows is escaped."""
    chosen = sample(cases, EVERY if whole else 30)
    found: list[Any] = []
    for case in chosen:
        started = time.monotonic()
        message, hint = None, ""
        try:
            stack.transcribe(str(case.path))
        except HubError as error:
            message, hint = error.message, error.hint
        problem = wrong(case, message, hint)
        *_, moment = runs.transcribe(hub, Lane("nano"), str(case.path))
        shown = results.status(moment)
        if (moment.state == "failed") is not (message is not None):
            problem = f"the page says {moment.state}: {moment.message}, Python {message}"
        elif message is not None and moment.message != message and case.path.name not in ("gone.wav", "nowhere.wav"):
            problem = problem or page_differs(case, moment, message)
        if "<img" in shown or "Something inside" in shown:
            problem = f"the page shows {shown}"
        if time.monotonic() - started > 60:
            problem = "took more than 60 s"
        if problem:
            found.append((case.path.name, problem, message))
    assert not found
    tally("files through Python and the page", len(chosen))


def page_differs(case: Case, moment: runs.Moment, message: str) -> str | None:
    """A file that is not there is one that the server has deleted, to the page; else they say the same."""
    return None if "deleted" in moment.message and not os.path.exists(case.path) else f"the page says {moment.message}"


@pytest.mark.timeout(1800)
def test_command_line(cases: list[Case], whole: bool, tally: Callable[..., None], tmp_path: Path) -> None:
    """Many files in one call: every one is answered, those that are well are written, into --output alone."""
    chosen = [case for case in sample(cases, EVERY if whole else 40) if "\0" not in str(case.path)]
    work = tmp_path / "work"
    work.mkdir()
    paths = [str(case.path) for case in chosen]
    command = ("cli", "transcribe", "--stack", "nano", "--format", "json", "--output", "out", "--", *paths)
    done, notes = watched(work, *command, timeout=1500)
    errors = [line.removeprefix("error: ") for line in done.stderr.split("\n") if line.startswith("error: ")]
    written = sorted((work / "out").iterdir())
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert len(errors) + len(written) == len(chosen)
    refused = [printable(case.path.name) for case in chosen if case.refused]
    assert [name for name in refused if not any(name in error for error in errors)] == []
    for path in written:
        (record,) = json.loads(path.read_text())
        assert record["duration"] <= SECONDS
    places, peak = outside(notes, work)
    assert places == []
    assert peak < 2e9
    tally("files through the command line", len(chosen))


@pytest.mark.timeout(1800)
def test_command_line_one_by_one(cases: list[Case], whole: bool, tally: Callable[..., None], tmp_path: Path) -> None:
    """One file a call: the exit code, the words, and nothing but them."""
    chosen = [case for case in sample(cases, 12 if whole else 2, seed=3) if "\0" not in str(case.path)]
    (tmp_path / "work").mkdir()
    for case in chosen:
        done, notes = watched(tmp_path / "work", "cli", "transcribe", "--stack", "nano", str(case.path), timeout=120)
        assert "Traceback" not in done.stderr
        assert outside(notes, tmp_path / "work")[0] == []
        if done.returncode:
            assert case.refused is not False, done.stderr
            message, hint = done.stderr.split("error: ", 1)[1].rstrip("\n").split("\n", 1)
            assert unclear(message, hint.split("\n")[0], printable(case.path.name)) is None
            assert done.stdout == ""
        else:
            assert not case.refused
    tally("files through a command line each", len(chosen))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as address:
        yield address


def uploadable(cases: list[Case], count: int) -> list[Case]:
    """Those that a browser could send: files, not places."""
    return [case for case in sample(cases, count) if os.path.isfile(case.path) and case.path.stat().st_size < 50e6]


@pytest.mark.timeout(1800)
def test_gradio_api(cases: list[Case], url: str, whole: bool, tally: Callable[..., None]) -> None:
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    client = Client(url, verbose=False, analytics_enabled=False)
    # Its client cannot send a name that is no text.
    chosen = [
        case for case in uploadable(cases, EVERY if whole else 25) if not re.search("[\ud800-\udfff]", case.path.name)
    ]
    before = set(os.listdir())
    found: list[Any] = []
    for case in chosen:
        problem = None
        try:
            text = client.predict(handle_file(str(case.path)), "nano", api_name="/transcribe")
            problem = "was not refused" if case.refused else None if isinstance(text, str) else repr(text)
        except AppError as error:
            said = str(error)
            plain = "".join(c for c in case.path.stem if c.isascii() and c.isalnum())[:10]
            inside = "".join(c for c in said if c.isascii() and c.isalnum())
            if re.search(r"[^!#-~]|%", case.path.name):  # HTTP escapes it: the longest piece that is left as it is
                plain = max(re.findall("[a-zA-Z0-9]+", case.path.stem) or [""], key=len)[:10]
            if case.refused is False:
                problem = f"was refused: {said}"
            elif plain not in inside or "Traceback" in said or "/tmp" in said or "Something inside" in said:
                problem = f"unclear: {said}"
        except Exception as error:
            problem = f"raised {error!r}"
        if problem:
            found.append((case.path.name, problem))
    assert not found
    assert set(os.listdir()) == before
    tally("files through gradio's API", len(chosen))


@pytest.mark.timeout(1800)
def test_openai_api(cases: list[Case], url: str, whole: bool, tally: Callable[..., None]) -> None:
    """The same by HTTP, under names that a client may send and no file system would take."""
    chosen = uploadable(cases, EVERY if whole else 25)
    names = [
        "../../etc/x.wav",
        "/etc/x.wav",
        "..",
        "",
        "a\nb.wav",
        HTML,
        "\u202egpj.wav",
        "x" * 300,
        "C:\\a.wav",
        "nul",
    ]
    found: list[Any] = []
    with httpx.Client(timeout=60) as client:
        for number, case in enumerate(chosen):
            name = names[number % len(names)] if number % 2 else case.path.name
            sent = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") or "file"
            answer = client.post(
                f"{url}/v1/audio/transcriptions",
                files={"file": (sent, case.path.read_bytes())},
                data={"model": "nano"},
            )
            body = answer.json()
            if answer.status_code == 200:
                problem = (
                    "was not refused" if case.refused else None if isinstance(body.get("text"), str) else str(body)
                )
            else:
                said = body["error"]["message"]
                problem = None if answer.status_code == 400 and said.rstrip().endswith((".", ")")) else f"said {said}"
                if case.refused is False or "/tmp" in said or "Traceback" in said:
                    problem = f"was refused: {said}"
            if problem:
                found.append((case.path.name, sent, answer.status_code, problem))
    assert not found
    tally("files through the OpenAI API", len(chosen))


@pytest.mark.parametrize(
    "place", ["/etc/hostname", "../../../../etc/hostname", "file:///etc/hostname", "nul\0.wav", ""]
)
def test_a_visitor_names_no_file_of_the_server(url: str, place: str) -> None:
    """A path instead of an upload is refused, whatever it is."""
    call = f"{url}/gradio_api/call/transcribe"
    data = [{"path": place, "meta": {"_type": "gradio.FileData"}}, "nano"]
    answer = httpx.post(call, json={"data": data})
    said = answer.text
    if answer.status_code == 200:
        said = httpx.get(f"{call}/{answer.json()['event_id']}", timeout=60).text
    assert "event: complete" not in said
    assert "Traceback" not in said
    assert Path("/etc/hostname").read_text().strip() not in said.replace("hostname", "")

"""What a visitor cannot do: reach files, make the server fetch, guess, flood, read secrets, or outlive a date."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from canary_hub import Hub
from canary_hub.errors import HubError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
CLIP = TESTS / "digits" / "three.flac"
SECRET = "hf_thisisasecretnobodyshouldsee"
FILE = {"_type": "gradio.FileData"}
Tally = Callable[[str, int], None]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page on the loopback, in this process, with a secret in its environment."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
        patch.setenv("CANARY_HUB_SHARE_DIR", str(folder / "shared"))
        patch.setenv("HF_TOKEN", SECRET)
        from canary_hub.ui import build_demo, launch_settings

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        demo = build_demo(Hub(folder, allow=()), "nano")
        settings: dict[str, Any] = {"server_port": port, "prevent_thread_lock": True, "quiet": True}
        demo.launch(server_name="127.0.0.1", **settings, **launch_settings())
        assert demo.allowed_paths == []
        yield f"http://127.0.0.1:{port}"
        demo.close()


@pytest.fixture(scope="module")
def client(served: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served, timeout=60) as client:
        yield client


def upload(client: httpx.Client, name: str, content: bytes) -> str:
    path: str = client.post("/gradio_api/upload", files={"files": (name, content)}).json()[0]
    return path


def call(client: httpx.Client, api: str, data: list[Any]) -> str:
    """What an endpoint answers, errors included."""
    begun = client.post(f"/gradio_api/call/{api}", json={"data": data})
    if begun.status_code != 200:
        return begun.text
    return client.get(f"/gradio_api/call/{api}/{begun.json()['event_id']}").text


def test_a_visitor_can_transcribe(client: httpx.Client) -> None:
    path = upload(client, "three.flac", CLIP.read_bytes())
    assert '"three"' in call(client, "transcribe", [{"path": path, "meta": FILE}, "nano"])


def test_no_path_of_a_visitor_is_opened(client: httpx.Client, tmp_path: Path, tally: Tally) -> None:
    mine = tmp_path / "mine.flac"
    mine.write_bytes(CLIP.read_bytes())
    paths = ["/etc/passwd", str(mine), "../../../etc/passwd", f"file://{mine}", "/proc/self/environ", "~/.netrc", ""]
    for path in paths:
        for payload in ({"path": path, "meta": FILE}, path, {"path": path}, {"path": path, "url": path, "meta": FILE}):
            for api, rest in (("transcribe", ["nano"]), ("compare", [["nano", "nano max_new_tokens=5"], "", False])):
                said = call(client, api, [payload, *rest])
                assert "event: complete" not in said, (api, payload, said)
                assert "three" not in said
                assert "root:" not in said
                tally("paths refused", 1)
    for path in ("/etc/passwd", str(mine), "/etc%2fpasswd", "..%2f..%2fetc%2fpasswd", str(ROOT / "app.py")):
        for route in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/", "/svelte/"):
            answer = client.get(f"{route}{path}")
            assert answer.status_code >= 400 or "<html" in answer.text, (route, path)
            assert "root:" not in answer.text
            tally("paths refused", 1)


def test_lanes_and_links_of_a_visitor_name_no_folders(client: httpx.Client) -> None:
    path = upload(client, "three.flac", CLIP.read_bytes())
    lanes = ["nano", "nano weights.canary=/etc"]
    said = call(client, "compare", [{"path": path, "meta": FILE}, lanes, "", False])
    assert "event: error" in said
    from canary_hub.share.links import from_query, known

    link, problems = known(from_query("v=1&view=compare&lane=nano+weights.canary%3D/etc&lane=nano")[0], Hub(allow=()))
    assert all(not lane.weights for lane in link.lanes)
    assert "A link cannot name folders" in " ".join(problems)
    for id in ("..", "../../etc/passwd", "%2e%2e%2fetc", "a" * 22):
        assert "root:" not in client.get("/", params={"v": "1", "result": id}).text


def test_the_server_fetches_nothing_for_a_visitor(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradio import processing_utils, route_utils, routes

    asked = []

    async def fetched(url: str, *rest: object) -> None:
        asked.append(url)

    # What gradio itself refuses on the loopback, it would do for a public host.
    for module in (processing_utils, route_utils, routes):
        for name in ("async_ssrf_protected_get", "secure_url_stream_response"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, fetched)

    class Inside(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

    inside = HTTPServer(("127.0.0.1", 0), Inside)
    threading.Thread(target=inside.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{inside.server_port}/secret.flac"
    public = "https://example.com/a.flac"
    for where in (url, public):
        for payload in ({"path": where, "meta": FILE}, {"path": "x.flac", "url": where, "meta": FILE}, where):
            for api in ("transcribe", "inspect"):
                assert "event: complete" not in call(client, api, [payload, "nano"])
        for route in ("file=", "file/", "proxy=", "/file="):
            assert client.get(f"/gradio_api/{route}{where}").status_code >= 400
    assert client.get(f"/gradio_api/file={public}").status_code == 403
    assert client.get(f"/gradio_api/file/{public}").status_code == 403
    inside.shutdown()
    assert asked == []


def test_uploads_of_a_visitor_do_nothing_when_opened(client: httpx.Client) -> None:
    evil = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>alert(1)</script></svg>"
    for name in ("evil.html", "evil.svg", "evil.xml", "evil.js", "evil.flac"):
        path = upload(client, name, evil)
        answer = client.get(f"/gradio_api/file={path}")
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        inert = "attachment" in answer.headers["content-disposition"]
        assert inert or answer.headers["content-type"].startswith(("audio/", "text/plain"))


def test_headers(client: httpx.Client, served: str) -> None:
    page = client.get("/")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "same-origin"
    policy = page.headers["content-security-policy"]
    for part in ("default-src 'self'", "connect-src 'self'", "object-src 'none'", "base-uri 'self'"):
        assert part in policy
    assert "frame-ancestors" not in policy  # Spaces, and anybody, may embed it
    assert "x-frame-options" not in page.headers
    for path in ("/config", "/v1/models", "/theme.css", "/nothing"):
        assert client.get(path).headers["x-content-type-options"] == "nosniff"
    for closed in ("deep_link?session_hash=x", "process_recording", "run-history/buckets", "monitoring/x"):
        method = "POST" if "process" in closed else "GET"
        assert client.request(method, f"/gradio_api/{closed}", headers={"host": "localhost"}).status_code >= 400
    assert client.get("/monitoring/x").status_code >= 400


def test_other_sites_may_not_read_a_local_page(client: httpx.Client, served: str) -> None:
    """The page on a laptop must not answer what some other site's script in the same browser asks."""
    evil = client.get("/config", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in evil.headers
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in client.options("/gradio_api/upload", headers=asked).headers
    assert "access-control-allow-origin" not in client.get("/config", headers={"origin": "null"}).headers


def test_no_secret_in_what_anybody_can_read(client: httpx.Client, served: str, capfd: Any) -> None:
    path = upload(client, "bad.flac", b"no audio")
    said = [call(client, "transcribe", [{"path": path, "meta": FILE}, "nano"])]
    said += [client.get(url).text for url in ("/", "/config", "/gradio_api/info", "/v1/models", "/v1/x")]
    good = upload(client, "three.flac", CLIP.read_bytes())
    said.append(call(client, "inspect", [{"path": good, "meta": FILE}, "nano"]))
    out, err = capfd.readouterr()
    for text in (*said, out, err):
        assert SECRET not in text


def test_a_refusing_hub_is_told_without_the_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from hub_server import HubServer

    from canary_hub.space import push
    from canary_hub.space.staging import Staged
    from canary_hub.specs import WeightsRef
    from canary_hub.weights.checkpoint import snapshot

    site = HubServer()
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", site.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    for status in (401, 403, 404, 429, 500, 503):
        site.fail = {"/": (status, f"no, {status}")}
        with pytest.raises(HubError) as refused:
            push(Staged(tmp_path, {}, {}), "ann/page")
        assert SECRET not in str(refused.value)
        with pytest.raises(HubError) as refused:
            snapshot(WeightsRef("ann/model", "a" * 40))
        assert SECRET not in str(refused.value)
        assert len(refused.value.message) < 600
    site.shutdown()


def test_a_login_guards_everything_and_is_not_told(tmp_path: Path) -> None:
    import gradio as gr
    from starlette.testclient import TestClient

    from canary_hub.ui import build_demo, launch_settings

    demo = build_demo(Hub(tmp_path, allow=()), "nano")
    settings = launch_settings()
    app = gr.routes.App.create_app(demo, app_kwargs=settings["app_kwargs"])
    app.auth, demo.auth, demo.auth_message = {"ada": "correct-horse-battery"}, [("ada", "correct-horse-battery")], None
    with TestClient(app) as visitor:
        for path in ("/config", "/gradio_api/info", "/gradio_api/file=/tmp/x", "/v1/models"):
            answer = visitor.get(path)
            assert answer.status_code in (401, 403), path
            assert "correct-horse" not in answer.text
        assert visitor.post("/gradio_api/upload", files={"files": b"x"}).status_code == 401
        assert visitor.get("/v1/models", headers={"authorization": "Bearer no"}).status_code == 401
        assert "correct-horse" not in visitor.get("/").text


def test_requests_and_uploads_of_one_visitor_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    from canary_hub.ui.server.guard import Guard

    monkeypatch.setenv("CANARY_HUB_REQUESTS_PER_MINUTE", "5")
    monkeypatch.setenv("CANARY_HUB_UPLOAD_MB_PER_HOUR", "0.001")
    route = Route("/{rest:path}", lambda request: PlainTextResponse("in"), methods=["GET", "POST"])
    app = Starlette(routes=[route], middleware=[Guard.from_env()])
    one, two = TestClient(app, client=("10.0.0.1", 1)), TestClient(app, client=("10.0.0.2", 1))
    assert one.post("/gradio_api/upload", content=b"x" * 600).status_code == 200
    more = one.post("/gradio_api/upload", content=b"x" * 600)
    assert (more.status_code, int(more.headers["retry-after"]) > 3000) == (429, True)
    assert two.post("/v1/audio/transcriptions", content=b"x" * 600).status_code == 200
    assert two.post("/gradio_api/upload", content=iter([b"x"])).status_code == 411
    assert [one.post("/gradio_api/queue/join").status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = one.post("/gradio_api/queue/join").json()
    assert "Try again in" in refused["error"] == refused["detail"]
    light = [one.post("/gradio_api/run/predict").status_code for _ in range(51)]  # what the page asks by itself
    assert light == [200] * 50 + [429]
    assert two.post("/gradio_api/call/transcribe").status_code == 200
    assert one.get("/gradio_api/queue/data").status_code == 200


def test_a_rate_forgets_in_time() -> None:
    from canary_hub.ui.server.rates import Rate

    clock = [0.0]
    rate = Rate(2, 60, lambda: clock[0])
    assert [rate.wait("a"), rate.wait("a"), rate.wait("a"), rate.wait("b")] == [0, 0, 60, 0]
    clock[0] = 59.0
    assert rate.wait("a") == 1
    clock[0] = 60.0
    assert rate.wait("a") == 0
    clock[0] = 500.0
    rate.wait("c")
    assert list(rate._spent) == ["c"]
    assert rate.wait("c", 5) == 60


def test_nothing_runs_past_the_queue(client: httpx.Client) -> None:
    path = upload(client, "three.flac", CLIP.read_bytes())
    data = {"data": [{"path": path, "meta": FILE}, "nano"]}
    for route in ("run", "api"):
        for api in ("transcribe", "inspect", "compare"):
            for end in ("", "/"):
                answer = client.post(f"/gradio_api/{route}/{api}{end}", json=data, follow_redirects=True)
                assert answer.status_code in (403, 404), (route, api, answer.text)


def test_sharing_is_limited_per_visitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gradio as gr

    from canary_hub import Result
    from canary_hub.share.store import SharedResults
    from canary_hub.ui.widgets import share_panel as share

    monkeypatch.setenv("CANARY_HUB_SHARES_PER_HOUR", "2")
    share.shares_rate.cache_clear()
    result = Result("a.wav", 1.0, "nano")
    with gr.Blocks() as demo:
        panel = share.Share(SharedResults(tmp_path), "test")
        panel.listen(gr.State(), lambda shown: (result, None))
    share.shares_rate.cache_clear()
    made = next(one.fn for one in demo.fns.values() if one.fn is not None)

    class Asking:
        def __init__(self, host: str) -> None:
            self.headers: dict[str, str] = {}
            self.client = type("Client", (), {"host": host})()

    def shares(host: str) -> str:
        said: str = made(None, False, Asking(host))
        return said

    assert ["Copy link" in shares("10.0.0.1") for _ in range(3)] == [True, True, False]
    assert "You have shared many results" in shares("10.0.0.1")
    assert "Copy link" in shares("10.0.0.2")


def test_ids_and_keys_cannot_be_guessed(tmp_path: Path) -> None:
    from canary_hub import Result
    from canary_hub.share.store import SharedResults

    shared = SharedResults(tmp_path)
    saved = [shared.save(Result("a.wav", 1.0, "nano")) for _ in range(50)]
    for values in ([one.id for one in saved], [one.key for one in saved]):
        assert len(set(values)) == 50
        assert all(re.fullmatch(r"[\w-]{22}", value) for value in values)  # 16 bytes: 128 bits
        for place in range(21):  # every character but the last is free
            assert len({value[place] for value in values}) > 15
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert not any(one.key in kept for one in saved)
    code = (ROOT / "canary_hub" / "shared_results.py").read_text()
    assert "hmac.compare_digest" in code
    assert "secrets.token_urlsafe(16)" in code


def test_uploads_go_in_time_by_a_moved_clock(tmp_path: Path) -> None:
    from canary_hub.ui.page import KEEP_SECONDS
    from canary_hub.ui.server.uploads import delete_old

    new = tmp_path / "a1" / "speech.wav"
    new.parent.mkdir()
    new.write_bytes(b"x")
    os.utime(new, (0, 0))  # a copy keeps its original's date, which does not count
    now = new.stat().st_ctime
    assert delete_old(tmp_path, KEEP_SECONDS, now + KEEP_SECONDS - 5) == 0
    assert delete_old(tmp_path, KEEP_SECONDS, now + KEEP_SECONDS + 5) == 1
    assert list(tmp_path.iterdir()) == []


def test_results_go_in_time_though_nobody_comes(tmp_path: Path) -> None:
    import time

    from canary_hub import Result
    from canary_hub.share.store import SharedResults

    now = [2_000_000_000.0]
    shared = SharedResults(tmp_path, days=2, now=lambda: now[0])
    shared.save(Result("a.wav", 1.0, "nano"))
    now[0] += 2 * 86400 + 1
    shared.keep_removing(every=0.05)
    until = time.monotonic() + 20
    while list((tmp_path / "results").iterdir()):
        assert time.monotonic() < until
        time.sleep(0.05)


PINNED = re.compile("[0-9a-f]{40}")


def test_revisions_are_pinned_and_nothing_remote_is_run() -> None:
    hub = Hub(ROOT / "plugins")
    refs = [ref for spec in hub.registry.stacks.values() for ref in spec.weights.values()]
    refs += [ref for part in hub.registry.components.values() for ref in part.weights.values() if ref is not None]
    assert not {ref.repo for ref in refs if ref.repo and not PINNED.fullmatch(ref.revision or "")}
    words = ("trust_" + "remote_code", "torch.load(", "pickle.load", "eval(", "exec(")
    allowed = {"torch.load(": {"state.py"}}  # the trainer's own state, with weights_only=True
    for path in (*ROOT.glob("canary_hub/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py"), ROOT / "app.py"):
        code = path.read_text("utf-8")
        for word in words:
            found = [line for line in code.splitlines() if re.search(rf"(?<![\w.])(?<!def ){re.escape(word)}", line)]
            if path.name in allowed.get(word, ()):
                assert all("weights_only=True" in line for line in found)
            else:
                assert not found, (path, found)


def test_only_safetensors_are_fetched() -> None:
    hub = Hub(ROOT / "plugins")
    refs = [ref for spec in hub.registry.stacks.values() for ref in spec.weights.values()]
    for ref in refs:
        assert all(name.endswith((".safetensors", ".json", ".txt", ".model", ".index.json")) for name in ref.files), ref


def test_an_error_inside_tells_a_visitor_nothing_of_the_machine() -> None:
    from canary_hub.errors import explain

    message, hint = explain(RuntimeError(f"secret {SECRET} in /root/private"))
    assert SECRET not in json.dumps([message, hint])
    assert "/root" not in message + hint


def test_the_licence_of_every_dependency_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = [needs for extra, needs in project["optional-dependencies"].items() if extra != "test"]
    listed = (ROOT / "docs" / "licences.md").read_text("utf-8").lower().replace("_", "-")
    for need in (*project["dependencies"], *(need for needs in optional for need in needs)):
        name = re.split(r"[^\w.-]", need)[0].lower().replace("_", "-")
        assert f"**{name}**" in listed, f"docs/licences.md lacks {name}"

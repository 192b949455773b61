"""`/inspect` and `/components`, through gradio's own client and by plain HTTP."""

from __future__ import annotations

import dataclasses
import json
import re

import httpx
import pytest
from api_server import DIGITS, STACKS, served

from canary_hub import Hub
from canary_hub.run import result as trace
from canary_hub.specs import Stage

SEVEN = DIGITS / "seven.flac"


@pytest.fixture(scope="module")
def url():
    with served() as address:
        yield address


@pytest.fixture(scope="module")
def client(url):
    from gradio_client import Client

    return Client(url, verbose=False, analytics_enabled=False)


def test_these_four_are_public_and_typed(client):
    described = client.view_api(return_format="dict")
    assert set(described["named_endpoints"]) == {"/transcribe", "/compare", "/inspect", "/components"}
    assert not described["unnamed_endpoints"]
    audio, stack = described["named_endpoints"]["/inspect"]["parameters"]
    assert audio["python_type"]["type"] == "filepath"
    assert "'nano'" in stack["python_type"]["type"]
    assert not described["named_endpoints"]["/components"]["parameters"]


def test_inspect_gives_the_trace_of_the_run(client):
    from gradio_client import handle_file

    found = client.predict(handle_file(str(SEVEN)), "nano", api_name="/inspect")
    *_, done = Hub(allow=()).load("nano").stream(SEVEN, details=True)
    expected = done.result.trace.to_json()
    assert found["version"] == trace.TRACE_VERSION
    assert found["file"] == "seven.flac"
    for field in ("duration", "stack", "components", "parameters", "nbytes"):
        assert found[field] == json.loads(json.dumps(expected[field]))
    (segment,), (wanted,) = found["segments"], expected["segments"]
    for field in ("prompt", "words", "frame_seconds"):
        assert segment[field] == json.loads(json.dumps(wanted[field]))
    assert [token["id"] for token in segment["tokens"]] == [token["id"] for token in wanted["tokens"]]
    assert "".join(word["text"] for word in segment["words"]) == "seven"
    assert str(SEVEN.parent) not in json.dumps(found)


def test_the_shape_of_the_trace_is_documented(url):
    """Every field of a trace is named on the API page."""
    described = httpx.get(f"{url}/gradio_api/info").json()["named_endpoints"]["/inspect"]["description"]
    parts = ("Trace", "StageRecord", "SegmentTrace", "PromptToken", "Frame", "Near", "TokenTrace", "WordTrace")
    fields = {field.name for part in parts for field in dataclasses.fields(getattr(trace, part))}
    assert fields <= set(re.findall(r"\w+", described))


def test_inspect_refuses_in_plain_words(client, tmp_path):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    (tmp_path / "bad.wav").write_text("no audio")
    with pytest.raises(AppError, match=r"bad\.wav"):
        client.predict(handle_file(str(tmp_path / "bad.wav")), api_name="/inspect")


def test_components_tells_what_is_installed_and_no_paths(client):
    found = client.predict(api_name="/components")
    hub = Hub(STACKS)
    assert [stack["name"] for stack in found["stacks"]] == list(hub.registry.stacks)
    assert [part["id"] for part in found["components"]] == list(hub.registry.components)
    nano = next(stack for stack in found["stacks"] if stack["name"] == "nano")
    assert set(nano["components"]) == {stage.value for stage in Stage}
    by_id = {part["id"]: part for part in found["components"]}
    assert by_id["canary/log-mel"]["contract"]["produces"][0]["kind"] == "features"
    assert by_id["canary/qwen3"]["call_options"]["temperature"]["maximum"] == 2.0
    assert by_id["test/foreign"]["contract"] == "Its sizes follow from the weights of the stack it is used in."
    written = json.dumps(found)
    assert str(STACKS.parents[1]) not in written
    assert not re.search(r'"/\w', written)


def test_a_contract_that_fails_tells_no_paths(tmp_path):
    from canary_hub.specs import ComponentSpec
    from canary_hub.ui.api.endpoints import _contract

    (tmp_path / "secret_ports.py").write_text(f"def contract(build):\n    raise OSError({str(tmp_path)!r})\n")
    spec = ComponentSpec(Stage.ENCODER, "a/b", "m:f", "secret_ports:contract")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        said = _contract(Hub(tmp_path / "none", allow=()), spec)
    assert isinstance(said, str)
    assert str(tmp_path) not in said


def test_by_plain_http(url):
    """What the README shows with curl."""
    call = f"{url}/gradio_api/call"
    event = httpx.post(f"{call}/components", json={"data": []}).json()["event_id"]
    assert '"nano"' in httpx.get(f"{call}/components/{event}").text
    (path,) = httpx.post(f"{url}/gradio_api/upload", files={"files": SEVEN.open("rb")}).json()
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, "nano"]
    event = httpx.post(f"{call}/transcribe", json={"data": data}).json()["event_id"]
    assert httpx.get(f"{call}/transcribe/{event}").text.splitlines()[-2] == 'data: ["seven"]'

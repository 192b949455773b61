"""The public endpoint, through gradio's own client."""

import itertools
import json
from pathlib import Path

import pytest

SPEECH = Path(__file__).parents[1] / "oracle" / "set_a" / "audio" / "speech.wav"


@pytest.fixture(scope="module")
def client(page_url):
    from gradio_client import Client

    return Client(page_url, verbose=False, analytics_enabled=False)


def test_these_endpoints_are_public_and_typed(client):
    described = client.view_api(return_format="dict")
    assert set(described["named_endpoints"]) == {"/transcribe", "/compare", "/inspect", "/components"}
    assert not described["unnamed_endpoints"]
    audio, stack = described["named_endpoints"]["/transcribe"]["parameters"]
    assert audio["python_type"]["type"] == "filepath"
    assert stack["parameter_has_default"]
    assert stack["parameter_default"] == "tiny"
    assert "'endless'" in stack["python_type"]["type"]
    audio, lanes, reference, details = described["named_endpoints"]["/compare"]["parameters"]
    assert [each["parameter_name"] for each in (audio, lanes, reference, details)] == [
        "audio",
        "lanes",
        "reference",
        "details",
    ]
    assert audio["python_type"]["type"] == "filepath"
    assert lanes["python_type"]["type"] == "list[str]"
    assert reference["python_type"]["type"] == "str"
    assert details["python_type"]["type"] == "bool"


def test_it_answers_with_the_text(client):
    from gradio_client import handle_file

    assert client.predict(handle_file(str(SPEECH)), api_name="/transcribe").strip()


def test_it_streams_and_can_be_stopped(client, endless_steps):
    from gradio_client import handle_file

    job = client.submit(handle_file(str(SPEECH)), "endless", api_name="/transcribe")
    texts = []
    for text in job:
        texts.append(text)
        if len(text) > 20:
            job.cancel()
            break
    written = [text for text in texts if text]
    assert len(written) >= 2
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(written))


def test_a_bad_file_is_a_plain_error(client, tmp_path):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    with pytest.raises(AppError, match="WAV"):
        client.predict(handle_file(str(bad)), api_name="/transcribe")


@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}])
def test_files_of_the_server_are_not_read(page_url, meta):
    import httpx

    call = f"{page_url}/gradio_api/call/transcribe"
    server_file = {"path": str(SPEECH), **meta}
    event = httpx.post(call, json={"data": [server_file, "tiny"]}).json()["event_id"]
    answer = httpx.get(f"{call}/{event}").text
    assert "event: error" in answer
    assert "event: complete" not in answer


def test_lanes_are_compared_and_answered_as_the_pages_export(client, tmp_path):
    from gradio_client import handle_file

    from canary_hub.compare import from_json

    lanes = ["nano", "nano encoder=test/broken", "nano max_new_tokens=2"]
    answer = client.predict(handle_file(str(SPEECH)), lanes, "one two", api_name="/compare")
    (found,) = from_json(json.dumps(answer))
    assert [lane.lane for lane in found.lanes] == lanes
    assert [lane.state for lane in found.lanes] == ["done", "failed", "done"]
    assert found.reference == "one two"
    assert found.lanes[2].stages["encoder"].shared
    assert not found.lanes[0].trace


@pytest.mark.parametrize(
    ("lanes", "said"),
    [
        (["nano"], "1 lane"),
        (["nano", "nano weights.canary=/etc"], "Folders"),
        (["nano", "nanoo"], "nanoo"),
        ("x", "list"),
    ],
)
def test_lanes_that_cannot_be_are_plain_errors(client, lanes, said):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match=said):
        client.predict(handle_file(str(SPEECH)), lanes, api_name="/compare")


def test_compare_reads_no_files_of_the_server(page_url):
    import httpx

    call = f"{page_url}/gradio_api/call/compare"
    event = httpx.post(call, json={"data": [{"path": str(SPEECH)}, ["nano", "nano"], "", False]}).json()["event_id"]
    answer = httpx.get(f"{call}/{event}").text
    assert "event: error" in answer
    assert "event: complete" not in answer

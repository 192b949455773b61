"""The OpenAI-compatible endpoint under app.py of a staged ZeroGPU Space: the run belongs to who asked."""

from __future__ import annotations

import importlib.util
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from api_server import DIGITS
from conftest import ROOT
from test_space_app import VISITOR, running
from zerogpu_server import Answers, ZeroGpuServer

from canary_hub.space import stage


@pytest.mark.skipif(importlib.util.find_spec("spaces.zero") is None, reason="PyPI's spaces is not installed")
def test_it_runs_on_a_gpu_of_the_visitors(tmp_path):
    folder = stage(ROOT / "spaces" / "zerogpu", tmp_path / "zerogpu").folder
    (tmp_path / "cgroup").write_text("0::/here\n")
    tokens = []

    class Recording(Answers):
        def do_POST(self) -> None:
            if urlsplit(self.path).path == "/schedule":
                tokens.append(parse_qs(urlsplit(self.path).query).get("token"))
            super().do_POST()

    gpus = ZeroGpuServer()
    gpus.RequestHandlerClass = Recording
    settings = {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": gpus.url,
        "ZEROGPU_PROC_SELF_CGROUP_PATH": str(tmp_path / "cgroup"),
        "PYTHONPATH": str(folder),
    }
    with running(folder, (str(ROOT / "tests" / "zerogpu_server.py"),), **settings) as url:
        files = {"file": ("four.flac", (DIGITS / "four.flac").read_bytes())}
        ask = {"data": {"model": "nano"}, "files": files, "headers": VISITOR, "timeout": 60}
        answer = httpx.post(f"{url}/v1/audio/transcriptions", **ask)
        assert answer.json().get("text") == "four", answer.text
        assert gpus.calls == ["/startup-report", "/schedule", "/allow", "/release"]
        assert tokens == [[VISITOR["x-ip-token"]]]
        gpus.answer = "quota"
        refused = httpx.post(f"{url}/v1/audio/transcriptions", **ask)
        assert refused.status_code == 503
        assert "There is more in 2:00:00" in refused.json()["error"]["message"]
    gpus.shutdown()

"""vllm/qwen3 on vLLM itself: stack nano hears the digits that it hears with canary/qwen3."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from canary_hub import Hub
from canary_hub.run.events import Done
from canary_hub.specs import Stage

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU"),
]

DIGITS = sorted((ROOT / "tests" / "digits").glob("*.flac"))


@pytest.mark.timeout(900)
def test_nano_hears_the_same_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_HUB_CACHE", str(tmp_path))
    hub = Hub(ROOT / "plugins", allow=("vllm",))
    plain = hub.load("nano", dtype="float32", device="cuda")
    ours = hub.load(
        "nano",
        components={Stage.LLM: "vllm/qwen3"},
        options={"max_model_len": 1024, "gpu_memory_utilization": 0.3},
        dtype="float32",
        device="cuda",
    )
    waves = [plain.load_audio(path) for path in DIGITS]
    expected, heard = (
        [event.result.text for event in stack.run(waves) if isinstance(event, Done)] for stack in (plain, ours)
    )
    assert heard == expected

"""Shared fixtures: the oracle checkpoint (tiny, random weights, NeMo's own numbers) as a stack."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores; before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")


from canary_hub import Hub
from canary_hub.specs import StackSpec, WeightsRef

ROOT = Path(__file__).parents[1]
ORACLE = Path(__file__).parent / "oracle" / "set_a"
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def gradio_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where pages keep uploads. One for all pages of a process: gradio reads it at every request."""
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("gradio"))


@pytest.fixture(scope="session")
def oracle() -> Path:
    """The oracle set with goldens that NeMo computed: checkpoint/, llm/, audio/, golden/."""
    return ORACLE


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """Built-ins alone: what lies in a checkout's plugins/ must not decide these tests."""
    return Hub(tmp_path_factory.mktemp("no-plugins"), allow=())


@pytest.fixture(scope="session")
def tiny_spec(hub: Hub) -> StackSpec:
    """The Canary-Qwen components over the oracle's weights."""
    return hub.stack(
        "canary-qwen-2.5b",
        weights={"canary": WeightsRef(path=ORACLE / "checkpoint"), "canary-llm": WeightsRef(path=ORACLE / "llm")},
    )

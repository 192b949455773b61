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


# Left out of `pytest -m quick`: browsers, servers, and what was measured to take more than about two seconds of a core.
SLOW = (
    "bench/test_bench.py::test_a_backend_is_led",
    "bench/test_bench.py::test_the_command_measures_everything",
    "browser/",
    "cli/test_cli.py::test_text_on_stdout",
    "compare/test_compare.py::test_long_audio_goes_through",
    "evaluate/test_evaluate.py::test_a_hugging_face_data_set_is_streamed",
    "evaluate/test_evaluate.py::test_killed_at_a_random_moment",
    "models/canary_qwen/test_components.py::test_preprocessor_keeps_its_contract[librosa",
    "models/canary_qwen/test_encoder_local.py::test_memory_grows",
    "models/canary_qwen/test_nemo_parity.py",
    "models/test_nano.py::test_digit_strings",
    "models/test_nano.py::test_word_starts",
    "robust/",
    "space/test_app.py",
    "space/test_space.py::test_a_failure_in_the_middle",
    "space/test_space.py::test_a_plan",
    "space/test_space.py::test_a_second_push",
    "space/test_space.py::test_names_that",
    "space/test_space.py::test_push",
    "test_plugins.py::test_a_dropped_in_encoder_is_chosen_by_name_and_runs",
    "test_plugins_readme.py",
    "test_readme.py::test_the_client_of_the_readme",
    "test_readme.py::test_the_plugin_of_the_readme",
    "ui/api/test_mcp.py",
    "ui/api/test_openai.py",
    "ui/api/test_serve.py",
    "weights/test_checkpoint.py::test_fetches_once",
    "weights/test_checkpoint.py::test_offline",
    "weights/test_checkpoint.py::test_refusals",
)


class QuickFiles:
    """Under `-m quick`, files without a quick test are not even imported: those of the plugins, and slow ones."""

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        tests = Path(__file__).parent
        slow = not collection_path.is_relative_to(
            tests
        ) or f"{collection_path.relative_to(tests).as_posix()}/".startswith(SLOW)
        return slow or None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "quick: part of the inner loop (`pytest -m quick`): every part, under a minute")
    if config.getoption("markexpr") == "quick":
        config.pluginmanager.register(QuickFiles())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = item.nodeid.removeprefix("tests/")
        if name != item.nodeid and not name.startswith(SLOW):
            item.add_marker(pytest.mark.quick)


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

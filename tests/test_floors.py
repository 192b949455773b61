"""Listings and --help load nothing heavy; the layering of the package holds."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

HEAVY = ("torch", "transformers", "gradio", "librosa", "numpy", "scipy", "soundfile", "peft", "tokenizers")


def run(code: str) -> str:
    check = f"import sys\n{code}\nprint(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plugins"], ["components", "--json"], ["components", "canary/qwen3"], ["stacks"],
                  ["check", "canary-qwen-2.5b"], ["transcribe", "--help"], ["dump", "--help"], ["serve", "--help"],
                  ["bench", "--help"], ["eval", "--help"], ["explore", "--help"],
                  ["explore", "lora", "--help"], ["compare", "--help"], ["space", "push", "--help"],
                  ["new-plugin", "--help"]]
)  # fmt: skip
def test_light_commands(arguments: list[str]) -> None:
    code = f"from canary_hub.cli import main\nmain({arguments!r}, standalone_mode=False)"
    assert run(code) == "[]"


def test_import_and_listing_from_python() -> None:
    assert run("import canary_hub\ncanary_hub.Hub().registry.stack('nano')") == "[]"


FLOORS = [
    {"specs", "errors"},
    {"environment"},
    {
        "background",
        "contracts",
        "faults",
        "files",
        "import_marks",
        "protocols",
        "hookspecs",
        "audio",
        "resampling",
        "segmentation",
        "weights",
        "download",
        "repetition",
        "options",
        "scoring",
        "catalogue",
        "cpu",
    },
    {"plugins", "registry", "injection", "alignment", "lanes"},
    {"pool", "trace", "inspection", "sharing", "events"},
    {"chat"},
    {"pipeline"},
    {"hub"},
    {"compare", "evaluate", "formats", "explore", "space", "bench", "random_checkpoint", "dump"},
    {"links", "shared_results"},
    {"testing"},
]
SIDEWAYS = {
    ("registry", "plugins"),
    ("weights", "download"),
    ("audio", "resampling"),
    ("inspection", "trace"),
    ("events", "trace"),
    ("bench", "random_checkpoint"),
}


def test_imports_go_down_only() -> None:
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    package = ROOT / "canary_hub"
    for path in package.glob("*.py"):
        if path.stem == "__init__":
            continue
        assert path.stem in floor, f"{path.name} has no floor"
        tree = ast.parse(path.read_text())
        for_types = [node for node in tree.body if isinstance(node, ast.If)]
        tree.body = [node for node in tree.body if node not in for_types]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module in floor:
                pair = (path.stem, node.module)
                assert floor[node.module] < floor[path.stem] or pair in SIDEWAYS, pair


def test_only_the_page_imports_gradio() -> None:
    for path in (ROOT / "canary_hub").rglob("*.py"):
        if "ui" not in path.relative_to(ROOT / "canary_hub").parts:
            assert "import gradio" not in path.read_text(), path


def test_no_spaces_package() -> None:
    assert not (Path(ROOT) / "spaces" / "__init__.py").exists()

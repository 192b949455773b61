"""Listings and --help load nothing heavy; every file imports from the floors below it alone (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
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


PACKAGE = ROOT / "canary_hub"
FILES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in PACKAGE.rglob("*.py")
}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}

WORDS = {"specs", "stages", "contracts", "options", "errors", "hookspecs", "settings", "lanes", "atomic", "version"}
ROOMS = {"audio", "weights", "run"}
HUB = WORDS | ROOMS | {"models", "assembly", "pipeline", "plugins", "registry", "hub"}
FEATURES = {"compare", "evaluate", "explore", "bench", "share", "space"}
TAB = HUB | FEATURES | {"ui.widgets", "ui.server"}
TABS = {"ui.transcribe", "ui.compare", "ui.explore", "ui.registry"}
KNOWS = {  # a part of the package (`part_of`) -> the parts that it may import beside itself
    **dict.fromkeys(WORDS, WORDS),
    "stages": WORDS | {"weights"},  # a `Build` is typed with the checkpoints it holds
    **dict.fromkeys(("audio", "weights"), WORDS),
    **dict.fromkeys(("models", "run"), WORDS | {"audio", "weights"}),
    **dict.fromkeys(("assembly", "plugins"), WORDS | ROOMS),
    "pipeline": WORDS | ROOMS | {"assembly"},
    "registry": WORDS | ROOMS | {"plugins"},
    "hub": WORDS | ROOMS | {"assembly", "pipeline", "plugins", "registry"},  # no models: these are plugins like others
    "": HUB,  # canary_hub/__init__.py: what `import canary_hub` offers
    **dict.fromkeys(FEATURES, HUB),
    **dict.fromkeys(("evaluate", "share"), HUB | {"compare"}),
    "ui.server": HUB | FEATURES,
    "ui.widgets": HUB | FEATURES | {"ui.server"},
    **dict.fromkeys(TABS, TAB),
    "ui.share": TAB | {"ui.transcribe", "ui.compare"},  # a link restores what these two showed
    "ui.api": TAB | {"ui.compare"},  # /compare runs lanes as the tab does
    **dict.fromkeys(("ui", "ui.page"), TAB | TABS | {"ui.share", "ui.api", "ui.page"}),
    "cli": HUB | FEATURES | {"ui", "ui.api"},
    "testing": HUB | FEATURES | {"ui.widgets"},
}


def part_of(module: str) -> str:
    """canary_hub.models.cpu -> models; canary_hub.ui.widgets.html -> ui.widgets."""
    names = module.split(".")[1:]
    return ".".join(names[: 2 if names[:1] == ["ui"] else 1])


def imports(tree: ast.Module, folder: list[str]) -> set[str]:
    """What a file in `folder` imports, wherever in it: files of the package by full name, all else as written."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = folder[: len(folder) + 1 - node.level] if node.level else []
            origin = ".".join([*start, *([node.module] if node.module else [])])
            full = [f"{origin}.{alias.name}" for alias in node.names]
            found |= {name if name in FILES else origin for name in full}
    return found


def folder_of(name: str) -> list[str]:
    return name.split(".") if FILES[name].name == "__init__.py" else name.split(".")[:-1]


IMPORTS = {name: imports(tree, folder_of(name)) for name, tree in TREES.items()}
OWN = {name: {found for found in IMPORTS[name] if found.split(".")[0] == "canary_hub"} - {name} for name in FILES}


@pytest.mark.parametrize(
    "line", ["import canary_hub.hub", "import canary_hub.hub as h", "from canary_hub import hub", "from .. import hub",
             "from canary_hub.hub import Hub", "from ..hub import Hub", "def f():\n    from ..hub import Hub",
             "if TYPE_CHECKING:\n    from ..hub import Hub", "class A:\n    from .. import hub as h"]
)  # fmt: skip
def test_every_way_to_import_is_seen(line: str) -> None:
    assert imports(ast.parse(line), ["canary_hub", "run"]) == {"canary_hub.hub"}


def test_every_file_imports_what_its_floor_allows() -> None:
    wrong = [f"{name} has no floor" for name in FILES if part_of(name) not in KNOWS]
    for name, own in OWN.items():
        allowed = KNOWS.get(part_of(name), set()) | {part_of(name)}
        wrong += [f"{name} imports {found}" for found in sorted(own) if part_of(found) not in allowed]
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle() -> None:
    TopologicalSorter(OWN).prepare()  # raises CycleError, which names the files


def test_only_the_page_imports_gradio() -> None:
    users = [name for name in IMPORTS if {"gradio", "gradio_client"} & {found.split(".")[0] for found in IMPORTS[name]}]
    assert [name for name in users if not name.startswith("canary_hub.ui")] == []


def test_no_public_class_name_exists_twice() -> None:
    names = Counter(
        node.name
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name: count for name, count in names.items() if count > 1} == {}


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_no_spaces_package() -> None:
    assert not (Path(ROOT) / "spaces" / "__init__.py").exists()

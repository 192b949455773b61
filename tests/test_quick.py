"""`pytest -m quick` leaves out what is there, and has tests of every folder of the package."""

from __future__ import annotations

from conftest import ROOT, SLOW

TESTS = ROOT / "tests"


def test_what_is_left_out_exists() -> None:
    for entry in SLOW:
        path, _, name = entry.partition("::")
        assert (TESTS / path).exists(), entry
        assert not name or f"def {name.partition('[')[0]}" in (TESTS / path).read_text("utf-8"), entry


def test_every_folder_of_the_package_has_quick_tests() -> None:
    folders = [path.name for path in (ROOT / "canary_hub").iterdir() if (path / "__init__.py").exists()]
    for folder in folders:
        files = [path.relative_to(TESTS).as_posix() for path in (TESTS / folder).rglob("test_*.py")]
        assert [file for file in files if not f"{file}/".startswith(SLOW)], folder

"""Coverage-guided fuzzing by hand: `python tests/robust/fuzz.py links|comparison|shared -max_total_time=300 [CORPUS]`.

Needs `pip install atheris`, which has wheels for Linux alone. What it finds becomes an `@example` in
tests/test_properties.py.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["canary_hub", "json", "urllib"]):
    from canary_hub import Hub
    from canary_hub.compare import from_json, to_json
    from canary_hub.compare.markdown import to_markdown
    from canary_hub.errors import HubError
    from canary_hub.share.links import from_query, known, to_query
    from canary_hub.share.store import SharedResults

FOLDER = Path(tempfile.mkdtemp())
HUB = Hub(FOLDER / "none", allow=())
SHARED = SharedResults(FOLDER)
ID = "A" * 22


def links(data: bytes) -> None:
    """What is read and known comes back."""
    link, _ = from_query(data.decode("utf-8", "surrogateescape"))
    kept, _ = known(link, HUB)
    assert known(kept, HUB) == (kept, [])
    assert from_query(to_query(kept)) == (kept, [])


def comparison(data: bytes) -> None:
    """What is read can be shown and written again."""
    try:
        found = from_json(data)
    except HubError:
        return
    to_markdown(found)
    assert to_json(from_json(to_json(found))) == to_json(found)


def shared(data: bytes) -> None:
    """A shared result: about.json, a line break, result.json."""
    about, _, result = data.partition(b"\n")
    folder = FOLDER / "results" / ID
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "about.json").write_bytes(about)
    (folder / "result.json").write_bytes(result)
    try:
        SHARED.open(ID)
    except HubError:
        return


if __name__ == "__main__":
    target = {"links": links, "comparison": comparison, "shared": shared}[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()

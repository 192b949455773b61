"""Headless Chromium for tests: Debian's or Playwright's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api as playwright

TIMEOUT = 60_000  # ms: two cores serve, draw two pages and run other tests
playwright.expect.set_options(timeout=TIMEOUT)

PLACES = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")


@contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """A browser; what asks for one is skipped where there is none: pip cannot bring it."""
    path = next((path for path in PLACES if Path(path).exists()), None)
    with playwright.sync_playwright() as session:
        if path is None and not Path(session.chromium.executable_path).exists():
            pytest.skip("there is no Chromium: apt install chromium, or playwright install chromium")
        browser = session.chromium.launch(executable_path=path, args=["--no-sandbox", *arguments])
        yield browser
        browser.close()

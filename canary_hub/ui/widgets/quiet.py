"""How the page's own events are wired: nothing in the API, no spinner over what they change."""

from __future__ import annotations

from typing import Any

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
QUIET: dict[str, Any] = {**PRIVATE, "queue": False}
"""For what needs no model."""
PICKED: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
"""For a pick: another may come while the first is on its way."""

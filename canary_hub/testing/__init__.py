"""For plugin authors: a conformance test class, fixtures and a fake for every stage. Needs pytest.

from canary_hub.testing import ComponentConformance

class TestMine(ComponentConformance):
    component = "my/encoder"
    plugin = "canary_hub_mine.plugin"
"""

import pytest

pytest.register_assert_rewrite("canary_hub.testing.conformance")

from .conformance import ComponentConformance  # noqa: E402
from .fixtures import hub, tmp_plugin  # noqa: E402

__all__ = ["ComponentConformance", "hub", "tmp_plugin"]

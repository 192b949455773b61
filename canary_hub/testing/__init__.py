"""For plugin authors: a conformance test class and a fake for every stage, and fixtures. Needs pytest.

from canary_hub.testing import EncoderConformance

class TestMine(EncoderConformance):
    component = "my/encoder"
    plugin = "canary_hub_mine.plugin"
"""

import pytest

pytest.register_assert_rewrite("canary_hub.testing.conformance")

from .conformance import (  # noqa: E402
    EncoderConformance,
    LLMConformance,
    PreprocessorConformance,
    ProjectorConformance,
    PromptTemplateConformance,
)
from .fixtures import hub, tmp_plugin  # noqa: E402

__all__ = [
    "EncoderConformance",
    "LLMConformance",
    "PreprocessorConformance",
    "ProjectorConformance",
    "PromptTemplateConformance",
    "hub",
    "tmp_plugin",
]

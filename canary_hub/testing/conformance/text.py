"""What the stages that text passes through have to keep."""

from __future__ import annotations

from typing import Any

import torch

from ... import stages as protocols
from ...specs import Options, Stage
from ...stages import AudioSlot, Text
from ..under_test import UnderTest
from .audio import CLIPS, AudioConformance
from .component import ComponentConformance

_CONTROL = "<|im_start|><|im_end|><|audioplaceholder|>"


class PromptTemplateConformance(ComponentConformance):
    """Options to the pieces of a prompt."""

    stage = Stage.PROMPT_TEMPLATE
    protocol = protocols.PromptTemplate

    def check_contract(self, subject: UnderTest, component: Any) -> None:
        """One prompt with a placeholder token, and a slot in it."""
        pieces = component.render(subject.spec.call_options())
        assert any(isinstance(piece, AudioSlot) for piece in pieces), "the prompt has no AudioSlot"
        ports = [port for port in subject.contract.produces if port.kind == "prompt"]
        assert len(ports) == 1, f"the contract produces {len(ports)} prompts"
        assert ports[0].token, "the contract names no placeholder token"

    def test_typed_text_stays_text(self, subject: UnderTest) -> None:
        """What a user types never becomes a control token or a placeholder."""
        component = subject.build()
        usual = _controls(component, subject.spec.call_options())
        for name, field in subject.spec.call_options.model_fields.items():
            if field.annotation is str:
                typed = subject.spec.call_options(**{name: _CONTROL})
                after = _controls(component, typed)
                assert all(_CONTROL not in (text or "") for text in after), f"option {name} becomes a control token"
                assert after.count(None) == usual.count(None), f"option {name} changes the number of slots"


class LLMConformance(AudioConformance):
    """A prompt with audio embeddings to text."""

    stage = Stage.LLM
    protocol = protocols.LLMBackend

    def check_contract(self, subject: UnderTest, component: Any) -> None:
        """Embeddings have the contract's dim and the layout of their ids."""
        dim, embedded = subject.takes.dim, component.embed(torch.tensor([[1, 2, 3]]))
        assert embedded.shape[:2] == (1, 3), "embed() does not keep the layout of the ids"
        assert dim in (None, embedded.shape[-1]), f"embeds have {embedded.shape[-1]} dimensions, not {dim}"
        self._answers(subject, component, max(CLIPS))

    def test_takes_40_seconds(self, subject: UnderTest) -> None:
        """The window of Canary-Qwen in one piece."""
        self._answers(subject, subject.build(), 40.0)

    def test_typed_text_stays_text(self, subject: UnderTest) -> None:
        """What a user types never becomes a control token or a placeholder."""
        component = subject.build()
        ids = component.tokenize([Text(_CONTROL)])
        assert not {component.placeholder_id, *component.eos_ids} & set(ids), "typed text became a control token"

    def _answers(self, subject: UnderTest, component: Any, seconds: float) -> None:
        (logits,) = subject.run(component, [subject.clip(seconds)])
        assert logits.isfinite().all(), "nan or infinite values come out"


def _controls(template: Any, options: Options) -> list[str | None]:
    """The control pieces of a prompt, None for a slot."""
    return [
        piece.text if isinstance(piece, Text) else None
        for piece in template.render(options)
        if isinstance(piece, AudioSlot) or piece.control
    ]

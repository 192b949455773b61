"""What the stages that the audio passes through have to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from ... import stages as protocols
from ...specs import Stage
from ..under_test import UnderTest
from .component import ComponentConformance

CLIPS = (0.7, 2.0, 1.3)
"""Seconds of the clips of a batch."""


class AudioConformance(ComponentConformance):
    """Audio comes in: padding, batches and lengths change nothing.

    atol: how far two runs over the same clip may differ, alone and in a batch.
    """

    atol: ClassVar[float] = 1e-4

    def test_padding_does_not_change_the_result(self, subject: UnderTest) -> None:
        """What lies past a clip's length is not heard."""
        component, clip = subject.build(), subject.clip(1.3)
        self._same(subject.run(component, [clip], noise=True), subject.run(component, [clip]), "padded with noise")

    def test_batch_equals_singles(self, subject: UnderTest) -> None:
        """Clips of several lengths give the same together as alone."""
        component = subject.build()
        clips = [subject.clip(seconds, seed) for seed, seconds in enumerate(CLIPS)]
        alone = [row for clip in clips for row in subject.run(component, [clip])]
        self._same(subject.run(component, clips), alone, "in a batch")

    def test_an_empty_clip_costs_itself_alone(self, subject: UnderTest) -> None:
        """A clip of length zero gives nothing, and the one beside it is as if alone."""
        component, clip = subject.build(), subject.clip(1.3)
        empty, beside = subject.run(component, [clip[:0], clip])
        assert self.stage is Stage.LLM or len(empty) == 0, f"{len(empty)} come out of an empty clip"
        self._same([beside], subject.run(component, [clip]), "beside an empty clip")

    def test_same_seed_same_result(self, subject: UnderTest) -> None:
        """Built twice and run twice under the same seed, bit for bit the same."""
        runs = []
        for _ in range(2):
            torch.manual_seed(0)
            runs.append(subject.run(subject.build(), [subject.clip(1.3)])[0])
        assert runs[0].equal(runs[1]), "two runs under one seed differ"

    def _same(self, heard: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], how: str) -> None:
        assert [len(row) for row in heard] == [len(row) for row in expected], f"other lengths {how}"
        for row, other in zip(heard, expected, strict=True):
            difference = (row - other).abs().max().item() if row.numel() else 0.0
            assert difference <= self.atol, f"{how} the result differs by {difference:.3g}, more than {self.atol:g}"


class _TensorConformance(AudioConformance):
    """A stage whose output is a batch of tensors with lengths.

    frames_off: how many frames the number of outputs may lie off `seconds * rate_hz`.
    """

    frames_off: ClassVar[int] = 2

    def check_contract(self, subject: UnderTest, component: Any) -> None:
        """Dim and rate are those of the contract."""
        self._heard(subject, component, max(CLIPS))

    def test_takes_40_seconds(self, subject: UnderTest) -> None:
        """The window of Canary-Qwen in one piece."""
        self._heard(subject, subject.build(), 40.0)

    def _heard(self, subject: UnderTest, component: Any, seconds: float) -> None:
        (out,) = subject.run(component, [subject.clip(seconds)])
        assert out.isfinite().all(), "nan or infinite values come out"
        port = subject.contract.produces[0]
        assert port.dim in (None, out.shape[-1]), f"{out.shape[-1]} dimensions come out, not {port.dim}"
        if port.rate_hz is not None:
            expected = seconds * port.rate_hz
            off = abs(len(out) - expected)
            assert off <= self.frames_off, f"{len(out)} come out in {seconds} s, not {expected:g}"


class PreprocessorConformance(_TensorConformance):
    """Samples to features."""

    stage = Stage.PREPROCESSOR
    protocol = protocols.Preprocessor


class EncoderConformance(_TensorConformance):
    """Features to hidden states."""

    stage = Stage.ENCODER
    protocol = protocols.Encoder


class ProjectorConformance(_TensorConformance):
    """Hidden states to audio embeddings."""

    stage = Stage.PROJECTOR
    protocol = protocols.Projector

"""What every component has to keep, as a test class to subclass."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from .. import protocols
from ..audio import Waveform
from ..errors import WeightsError
from ..protocols import AudioSlot, Text
from ..specs import ID_PATTERN, Options, Stage, WeightsRef
from .fixtures import hub_with
from .subject import Subject, held_bytes

HEAVY = ("torch", "transformers", "gradio", "librosa", "numpy", "scipy", "soundfile", "peft", "tokenizers")
"""What no listing may import."""

PROTOCOLS: Mapping[Stage, Any] = {
    Stage.PREPROCESSOR: protocols.Preprocessor,
    Stage.ENCODER: protocols.Encoder,
    Stage.PROJECTOR: protocols.Projector,
    Stage.PROMPT_TEMPLATE: protocols.PromptTemplate,
    Stage.LLM: protocols.LLMBackend,
}

CLIPS = (0.7, 2.0, 1.3)
"""Seconds of the clips of a batch."""

_LIST = """
import sys
from pathlib import Path
before = set(sys.modules)
from canary_hub import Hub
hub = Hub(Path(sys.argv[1]), allow=("under_test",))
hub.registry.component(sys.argv[2])
print(*(sorted(set(sys.argv[3].split()) & (set(sys.modules) - before))))
"""

_CONTROL = "<|im_start|><|im_end|><|audioplaceholder|>"


class ComponentConformance:
    """Subclass it, name it Test..., and say what is to be tested. Sizes are those of a tiny random build.

    component: the id.
    plugin: import path of the module with the hooks; empty for a built-in.
    build_options: values that differ from the defaults.
    atol: how far two runs over the same clip may differ, alone and in a batch.
    frames_off: how many frames the number of outputs may lie off `seconds * rate_hz`.
    """

    component: ClassVar[str] = ""
    plugin: ClassVar[str] = ""
    build_options: ClassVar[Mapping[str, object]] = {}
    atol: ClassVar[float] = 1e-4
    frames_off: ClassVar[int] = 2

    def weights(self, folder: Path) -> Mapping[str, Path]:
        """Role -> the folder of a tiny random checkpoint, written to `folder` or lying somewhere already."""
        return {}

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """The component over its tiny weights."""
        return self.subject_in(tmp_path)

    def subject_in(self, folder: Path) -> Subject:
        """As the fixture `subject`, with a folder to write to. Fails where the plugin or its weights are missing."""
        (folder / "plugins").mkdir()
        (folder / "weights").mkdir()
        hub = hub_with(folder / "plugins", self.plugin)
        wrong = [record for record in hub.records if record.name == "under_test" and not record.ok]
        assert not wrong, f"{self.plugin} is no plugin: {wrong[0].error}"
        spec = hub.registry.component(self.component)
        weights = {role: WeightsRef(path=path) for role, path in self.weights(folder / "weights").items()}
        lacking = sorted(set(spec.weights) - set(weights))
        assert not lacking, f"{spec.id} reads weights {', '.join(lacking)}: return them from weights()"
        return Subject(hub, spec, self.build_options, {role: weights[role] for role in spec.weights})

    def test_is_described(self, subject: Subject) -> None:
        """Its id has a namespace of its own, and title and options say what they are for."""
        spec = subject.spec
        assert re.match(ID_PATTERN, spec.id), f"{spec.id!r} is not namespace/name in lower case"
        taken = {
            other.id.partition("/")[0]
            for record in subject.hub.records
            if record.name != "under_test"
            for other in record.components
        }
        assert not self.plugin or spec.id.partition("/")[0] not in taken, f"the namespace of {spec.id} is taken"
        assert spec.title, f"{spec.id} has no title"
        for model in (spec.build_options, spec.call_options):
            for name, field in model.model_fields.items():
                assert field.description, f"option {name} of {spec.id} has no description"

    def test_listing_imports_nothing_heavy(self, subject: Subject, tmp_path: Path) -> None:
        """`canary-hub components` shows it without torch and the like."""
        plugins = tmp_path / "plugins"
        paths = [path for path in sys.path if path]
        code = f"import sys\nsys.path[:] = {paths!r}\n{_LIST}"
        command = [sys.executable, "-c", code, str(plugins), subject.spec.id, " ".join(HEAVY)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not done.stdout.strip(), f"listing {subject.spec.id} imports {done.stdout.strip()}"

    def test_keeps_its_contract(self, subject: Subject) -> None:
        """It follows the stage's protocol, and dim, rate and layout are those of its contract."""
        stage, component = subject.spec.stage, subject.build()
        assert isinstance(component, PROTOCOLS[stage]), f"{subject.spec.id} does not follow protocols.{stage}"
        if stage is Stage.PROMPT_TEMPLATE:
            pieces = component.render(subject.spec.call_options())
            assert any(isinstance(piece, AudioSlot) for piece in pieces), "the prompt has no AudioSlot"
            ports = [port for port in subject.contract.produces if port.kind == "prompt"]
            assert len(ports) == 1, f"the contract produces {len(ports)} prompts"
            assert ports[0].token, "the contract names no placeholder token"
            return
        if stage is Stage.LLM:
            dim, embedded = subject.takes.dim, component.embed(torch.tensor([[1, 2, 3]]))
            assert embedded.shape[:2] == (1, 3), "embed() does not keep the layout of the ids"
            assert dim in (None, embedded.shape[-1]), f"embeds have {embedded.shape[-1]} dimensions, not {dim}"
        seconds = max(CLIPS)
        (out,) = subject.run(component, [subject.clip(seconds)])
        assert out.isfinite().all(), "nan or infinite values come out"
        if stage is Stage.LLM:
            return
        port = subject.contract.produces[0]
        assert port.dim in (None, out.shape[-1]), f"{out.shape[-1]} dimensions come out, not {port.dim}"
        if port.rate_hz is not None:
            expected = seconds * port.rate_hz
            assert abs(len(out) - expected) <= self.frames_off, f"{len(out)} come out in {seconds} s, not {expected:g}"

    def test_runs_among_the_fakes(self, subject: Subject) -> None:
        """Swapped into the stack `fake`, where it fits, it takes part in a transcript."""
        part, options = subject.spec, {f"{subject.spec.stage}.{key}": value for key, value in subject.options.items()}
        spec = subject.hub.stack("fake", components={part.stage: part.id}, options=options, weights=subject.weights)
        if subject.hub.check(spec).problems:
            pytest.skip("does not fit the fakes: other sizes")
        with subject.hub.load(spec, dtype="float32", device="cpu") as stack:
            noise = 0.1 * torch.randn(32000, generator=torch.Generator().manual_seed(0))
            result = stack.transcribe(Waveform(noise.numpy(), 16000, "noise"))
        assert result.segments[0].audio_frames, "no audio reached the LLM"
        assert result.segments[0].tokens, "the LLM wrote nothing"

    def test_padding_does_not_change_the_result(self, subject: Subject) -> None:
        """What lies past a clip's length is not heard."""
        self._needs_audio(subject)
        component, clip = subject.build(), subject.clip(1.3)
        self._same(subject.run(component, [clip], noise=True), subject.run(component, [clip]), "padded with noise")

    def test_batch_equals_singles(self, subject: Subject) -> None:
        """Clips of several lengths give the same together as alone."""
        self._needs_audio(subject)
        component = subject.build()
        clips = [subject.clip(seconds, seed) for seed, seconds in enumerate(CLIPS)]
        alone = [row for clip in clips for row in subject.run(component, [clip])]
        self._same(subject.run(component, clips), alone, "in a batch")

    def test_an_empty_clip_costs_itself_alone(self, subject: Subject) -> None:
        """A clip of length zero gives nothing, and the one beside it is as if alone."""
        self._needs_audio(subject)
        component, clip = subject.build(), subject.clip(1.3)
        empty, beside = subject.run(component, [clip[:0], clip])
        assert subject.spec.stage is Stage.LLM or len(empty) == 0, f"{len(empty)} come out of an empty clip"
        self._same([beside], subject.run(component, [clip]), "beside an empty clip")

    def test_takes_40_seconds(self, subject: Subject) -> None:
        """The window of Canary-Qwen in one piece."""
        self._needs_audio(subject)
        (out,) = subject.run(subject.build(), [subject.clip(40.0)])
        assert out.isfinite().all(), "nan or infinite values come out"
        if subject.spec.stage is not Stage.LLM and (rate := subject.contract.produces[0].rate_hz):
            assert abs(len(out) - 40 * rate) <= self.frames_off, f"{len(out)} come out in 40 s, not {40 * rate:g}"

    def test_same_seed_same_result(self, subject: Subject) -> None:
        """Built twice and run twice under the same seed, bit for bit the same."""
        self._needs_audio(subject)
        runs = []
        for _ in range(2):
            torch.manual_seed(0)
            runs.append(subject.run(subject.build(), [subject.clip(1.3)])[0])
        assert runs[0].equal(runs[1]), "two runs under one seed differ"

    def test_states_its_bytes(self, subject: Subject) -> None:
        """`nbytes` is what its tensors hold: the pool counts with it."""
        component = subject.build()
        stated, held = getattr(component, "nbytes", 0), held_bytes(component)
        assert stated == held, f"nbytes is {stated}, its tensors hold {held}"

    def test_accounts_for_every_tensor(self, subject: Subject, tmp_path: Path) -> None:
        """A tensor in the checkpoint that belongs to nothing is refused by name."""
        from safetensors.torch import load_file, save_file

        read = 0
        for role, ref in subject.weights.items():
            assert ref.path is not None
            if not (ref.path / "model.safetensors").is_file():
                continue
            altered = tmp_path / f"altered-{role}"
            shutil.copytree(ref.path, altered)
            (altered / "model.safetensors").unlink()
            changed = Subject(
                subject.hub, subject.spec, subject.options, {**subject.weights, role: WeightsRef(path=altered)}
            )
            try:
                changed.build()
            except WeightsError:
                read += 1
            else:
                continue  # no tensor of this role is read
            tensors = load_file(ref.path / "model.safetensors")
            save_file({**tensors, "of_nothing.weight": torch.zeros(1)}, altered / "model.safetensors")
            with pytest.raises(WeightsError, match=r"of_nothing\.weight"):
                changed.build()
        if not read:
            pytest.skip("reads no tensors")

    def test_a_missing_dependency_names_the_install_hint(
        self, subject: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where a package of `requires` is missing, the check says how to install it."""
        spec = subject.spec
        if not spec.requires:
            pytest.skip("requires nothing")
        assert spec.install, f"{spec.id} requires {', '.join(spec.requires)}, but has no install hint"
        real = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *more: None if name in spec.requires else real(name, *more)
        )
        stack = subject.hub.stack("fake", components={spec.stage: spec.id}, weights=subject.weights)
        problems = subject.hub.check(stack).problems
        assert any(spec.id in problem and spec.install in problem for problem in problems), problems

    def test_options_draw_as_controls(self, subject: Subject) -> None:
        """Every option becomes a field on the page, and its default comes back from it."""
        if importlib.util.find_spec("gradio") is None:
            pytest.skip("the page needs gradio")
        from ..ui.fields import draw

        for model in (subject.spec.build_options, subject.spec.call_options):
            fields = draw(subject.spec, model, {})
            assert [field.name for field in fields] == list(model.model_fields)
            defaults = model()
            read = {field.name: field.read(field.show(getattr(defaults, field.name))) for field in fields}
            assert model(**read) == defaults, "a default does not survive its field"

    def test_typed_text_stays_text(self, subject: Subject) -> None:
        """What a user types never becomes a control token or a placeholder."""
        stage, component = subject.spec.stage, subject.build()
        if stage is Stage.LLM:
            ids = component.tokenize([Text(_CONTROL)])
            assert not {component.placeholder_id, *component.eos_ids} & set(ids), "typed text became a control token"
        elif stage is Stage.PROMPT_TEMPLATE:
            usual = _controls(component, subject.spec.call_options())
            for name, field in subject.spec.call_options.model_fields.items():
                if field.annotation is str:
                    typed = subject.spec.call_options(**{name: _CONTROL})
                    after = _controls(component, typed)
                    assert all(_CONTROL not in (text or "") for text in after), f"option {name} becomes a control token"
                    assert after.count(None) == usual.count(None), f"option {name} changes the number of slots"
        else:
            pytest.skip("no text comes in")

    def _needs_audio(self, subject: Subject) -> None:
        if subject.spec.stage is Stage.PROMPT_TEMPLATE:
            pytest.skip("no audio comes in")

    def _same(self, heard: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], how: str) -> None:
        assert [len(row) for row in heard] == [len(row) for row in expected], f"other lengths {how}"
        for row, other in zip(heard, expected, strict=True):
            difference = (row - other).abs().max().item() if row.numel() else 0.0
            assert difference <= self.atol, f"{how} the result differs by {difference:.3g}, more than {self.atol:g}"


def _controls(template: Any, options: Options) -> list[str | None]:
    """The control pieces of a prompt, None for a slot."""
    return [
        piece.text if isinstance(piece, Text) else None
        for piece in template.render(options)
        if isinstance(piece, AudioSlot) or piece.control
    ]

"""What the components of all stages have to keep."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from ...audio.waveform import Waveform
from ...errors import HubError, WeightsError
from ...specs import ID_PATTERN, Stage, WeightsRef
from ..fixtures import hub_with
from ..under_test import UnderTest, held_bytes

HEAVY = ("torch", "transformers", "gradio", "librosa", "numpy", "scipy", "soundfile", "peft", "tokenizers")
"""What no listing may import."""

_LIST = """
import sys
from pathlib import Path
before = set(sys.modules)
from canary_hub import Hub
hub = Hub(Path(sys.argv[1]), allow=("under_test",))
hub.registry.component(sys.argv[2])
print(*(sorted(set(sys.argv[3].split()) & (set(sys.modules) - before))))
"""


class ComponentConformance(ABC):
    """Subclass one of its stages' classes, name it Test..., and say what is to be tested.

    component: the id.
    plugin: import path of the module with the hooks; empty for a built-in.
    build_options: values that differ from the defaults.
    stage, protocol: what the class is for.
    """

    component: ClassVar[str] = ""
    plugin: ClassVar[str] = ""
    build_options: ClassVar[Mapping[str, object]] = {}
    stage: ClassVar[Stage]
    protocol: ClassVar[Any]

    def weights(self, folder: Path) -> Mapping[str, Path]:
        """Role -> the folder of a tiny random checkpoint, written to `folder` or lying somewhere already."""
        return {}

    @pytest.fixture
    def subject(self, tmp_path: Path) -> UnderTest:
        """The component over its tiny weights."""
        return self.subject_in(tmp_path)

    def subject_in(self, folder: Path) -> UnderTest:
        """As the fixture `subject`, with a folder to write to. Fails where the plugin or its weights are missing."""
        (folder / "plugins").mkdir()
        (folder / "weights").mkdir()
        hub = hub_with(folder / "plugins", self.plugin)
        wrong = [record for record in hub.records if record.name == "under_test" and not record.ok]
        assert not wrong, f"{self.plugin} is no plugin: {wrong[0].error}"
        spec = hub.registry.component(self.component)
        assert spec.stage is self.stage, f"{spec.id} is of stage {spec.stage}, this class tests a {self.stage}"
        weights = {role: WeightsRef(path=path) for role, path in self.weights(folder / "weights").items()}
        lacking = sorted(set(spec.weights) - set(weights))
        assert not lacking, f"{spec.id} reads weights {', '.join(lacking)}: return them from weights()"
        return UnderTest(hub, spec, self.build_options, {role: weights[role] for role in spec.weights})

    def test_is_described(self, subject: UnderTest) -> None:
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

    def test_listing_imports_nothing_heavy(self, subject: UnderTest, tmp_path: Path) -> None:
        """`canary-hub components` shows it without torch and the like."""
        plugins = tmp_path / "plugins"
        paths = [path for path in sys.path if path]
        code = f"import sys\nsys.path[:] = {paths!r}\n{_LIST}"
        command = [sys.executable, "-c", code, str(plugins), subject.spec.id, " ".join(HEAVY)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not done.stdout.strip(), f"listing {subject.spec.id} imports {done.stdout.strip()}"

    def test_keeps_its_contract(self, subject: UnderTest) -> None:
        """It follows the stage's protocol, and what comes out is what its contract says."""
        component = subject.build()
        assert isinstance(component, self.protocol), f"{subject.spec.id} does not follow protocols.{self.stage}"
        self.check_contract(subject, component)

    @abstractmethod
    def check_contract(self, subject: UnderTest, component: Any) -> None:
        """Compare what the component gives with its contract."""

    def test_runs_among_the_fakes(self, subject: UnderTest) -> None:
        """Swapped into the stack `fake` it takes part in a transcript; where it does not fit, the hub refuses it."""
        part, options = subject.spec, {f"{subject.spec.stage}.{key}": value for key, value in subject.options.items()}
        spec = subject.hub.stack("fake", components={part.stage: part.id}, options=options, weights=subject.weights)
        if subject.hub.check(spec).problems:
            with pytest.raises(HubError, match=re.escape(part.id)):
                subject.hub.load(spec, dtype="float32", device="cpu")
            return
        with subject.hub.load(spec, dtype="float32", device="cpu") as stack:
            noise = 0.1 * torch.randn(32000, generator=torch.Generator().manual_seed(0))
            result = stack.transcribe(Waveform(noise.numpy(), 16000, "noise"))
        assert result.segments[0].audio_frames, "no audio reached the LLM"
        assert result.segments[0].tokens, "the LLM wrote nothing"

    def test_states_its_bytes(self, subject: UnderTest) -> None:
        """`nbytes` is what its tensors hold: the pool counts with it."""
        component = subject.build()
        stated, held = getattr(component, "nbytes", 0), held_bytes(component)
        assert stated == held, f"nbytes is {stated}, its tensors hold {held}"

    def test_accounts_for_every_tensor(self, subject: UnderTest, tmp_path: Path) -> None:
        """A tensor in the checkpoint that belongs to nothing is refused by name."""
        from safetensors.torch import load_file, save_file

        for role, ref in subject.weights.items():
            assert ref.path is not None
            if not (ref.path / "model.safetensors").is_file():
                continue
            altered = tmp_path / f"altered-{role}"
            shutil.copytree(ref.path, altered)
            (altered / "model.safetensors").unlink()
            changed = UnderTest(
                subject.hub, subject.spec, subject.options, {**subject.weights, role: WeightsRef(path=altered)}
            )
            try:
                changed.build()
                continue  # no tensor of this role is read
            except WeightsError:
                pass
            tensors = load_file(ref.path / "model.safetensors")
            save_file({**tensors, "of_nothing.weight": torch.zeros(1)}, altered / "model.safetensors")
            with pytest.raises(WeightsError, match=r"of_nothing\.weight"):
                changed.build()

    def test_a_missing_dependency_names_the_install_hint(
        self, subject: UnderTest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where a package of `requires` is missing, the check says how to install it."""
        spec, real = subject.spec, importlib.util.find_spec
        stack = subject.hub.stack("fake", components={spec.stage: spec.id}, weights=subject.weights)
        for missing in spec.requires:
            assert spec.install, f"{spec.id} requires {missing}, but has no install hint"
            monkeypatch.setattr(importlib.util, "find_spec", partial(_find_spec_without, missing, real))
            problems = subject.hub.check(stack).problems
            assert any(spec.id in problem and spec.install in problem for problem in problems), problems

    def test_options_draw_as_controls(self, subject: UnderTest) -> None:
        """Every option becomes a field on the page, and its default comes back from it."""
        from ...ui.widgets.fields import draw

        for model in (subject.spec.build_options, subject.spec.call_options):
            fields = draw(subject.spec, model, {})
            assert [field.name for field in fields] == list(model.model_fields)
            defaults = model()
            read = {field.name: field.read(field.show(getattr(defaults, field.name))) for field in fields}
            assert model(**read) == defaults, "a default does not survive its field"


def _find_spec_without(missing: str, real: Callable[..., Any], name: str, *more: Any) -> Any:
    return None if name == missing else real(name, *more)

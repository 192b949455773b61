"""The factories of the Granite Speech components."""

from __future__ import annotations

from canary_hub.models.families.parts import Parts
from canary_hub.stages import Build

from .encoder import GraniteConformer
from .family import FAMILY, ROLE
from .granite import GraniteBackend, build_merged, build_peft
from .log_mel import LogMel
from .projector import QFormerProjector
from .prompts import SpeechPrompt


def log_mel(build: Build) -> LogMel:
    """80 mel bins, two frames stacked."""
    return LogMel(FAMILY.n_mels.of(build.weights[ROLE].config))


def encoder(build: Build) -> GraniteConformer:
    """A conformer with block attention."""
    return GraniteConformer(Parts(build, FAMILY).encoder())


def projector(build: Build) -> QFormerProjector:
    """A Q-Former over blocks of frames."""
    return QFormerProjector(Parts(build, FAMILY).projector(), FAMILY.merge / FAMILY.hidden_hz)


def prompt(build: Build) -> SpeechPrompt:
    """The prompt template."""
    return SpeechPrompt()


def llm(build: Build) -> GraniteBackend:
    """Granite with the speech adapter merged."""
    return build_merged(build)


def llm_peft(build: Build) -> GraniteBackend:
    """Granite with the speech adapter live."""
    return build_peft(build)

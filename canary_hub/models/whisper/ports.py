"""The contracts of the Whisper components, from the checkpoint's config.json. No torch."""

from __future__ import annotations

from ...specs import Contract, Port
from ...stages import Build
from .checkpoint import WHISPER

PROMPT = Port("prompt", layout="whisper", token="<|audio|>")


def _sized(build: Build, kind: str, key: str, rate_hz: float, layout: str) -> Port:
    checkpoint = build.weights[WHISPER]
    return Port(kind, dim=int(checkpoint.config[key]), rate_hz=rate_hz, layout=layout, tag=checkpoint.name)


def _features(build: Build) -> Port:
    return _sized(build, "features", "num_mel_bins", 100.0, "B F T")


def _hidden(build: Build) -> Port:
    return _sized(build, "hidden", "d_model", 50.0, "B N D")


def _embeds(build: Build) -> Port:
    return _sized(build, "embeds", "d_model", 50.0, "B M H")


def log_mel(build: Build) -> Contract:
    """16 kHz audio -> n_mels features."""
    return Contract((Port("audio", rate_hz=16000.0, layout="B S"),), (_features(build),))


def encoder(build: Build) -> Contract:
    """n_mels features -> d_model hidden vectors."""
    return Contract((_features(build),), (_hidden(build),))


def identity(build: Build) -> Contract:
    """Hidden vectors -> themselves."""
    return Contract((_hidden(build),), (_embeds(build),))


def prompt(build: Build) -> Contract:
    """A slot for the audio and Whisper's control tokens."""
    return Contract((), (PROMPT,))


def decoder(build: Build) -> Contract:
    """The encoder's vectors, read by cross-attention, and control tokens -> text."""
    return Contract((_embeds(build), PROMPT), (Port("text"),))

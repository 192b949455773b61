"""The contracts of a family's five components, from its config.json. No torch."""

from __future__ import annotations

from ...specs import Contract, Port
from ...stages import Build
from .family import Family

SAMPLE_RATE = 16000.0
"""All families hear 16 kHz."""


def _features(build: Build, family: Family) -> Port:
    checkpoint = build.weights[family.role]
    n_mels = family.n_mels.of(checkpoint.config)
    return Port("features", dim=n_mels, rate_hz=family.feature_hz, layout="B F T", tag=checkpoint.name)


def _hidden(build: Build, family: Family) -> Port:
    checkpoint = build.weights[family.role]
    d_model = family.d_model.of(checkpoint.config)
    return Port("hidden", dim=d_model, rate_hz=family.hidden_hz, layout="B N D", tag=checkpoint.name)


def _embeds(build: Build, family: Family, rate_hz: float | None) -> Port:
    checkpoint = build.weights[family.role]
    hidden_size = family.hidden_size.of(checkpoint.config)
    return Port("embeds", dim=hidden_size, rate_hz=rate_hz, layout="B M H", tag=checkpoint.name)


def _prompt(family: Family) -> Port:
    return Port("prompt", layout=f"{family.chat} chat", token=family.token)


def log_mel(build: Build, family: Family) -> Contract:
    """16 kHz audio -> n_mels features."""
    return Contract((Port("audio", rate_hz=SAMPLE_RATE, layout="B S"),), (_features(build, family),))


def encoder(build: Build, family: Family) -> Contract:
    """n_mels features -> d_model hidden vectors."""
    return Contract((_features(build, family),), (_hidden(build, family),))


def projector(build: Build, family: Family) -> Contract:
    """d_model hidden vectors -> hidden_size audio embeddings, one for every `merge` of them."""
    return Contract((_hidden(build, family),), (_embeds(build, family, family.hidden_hz / family.merge),))


def prompt(build: Build, family: Family) -> Contract:
    """A chat prompt that holds the family's placeholder token once; the audio embeddings take its place."""
    return Contract((), (_prompt(family),))


def llm(build: Build, family: Family) -> Contract:
    """Audio embeddings of the LLM's hidden_size and a chat prompt -> text."""
    return Contract((_embeds(build, family, None), _prompt(family)), (Port("text"),))

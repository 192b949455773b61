"""What a family of composite models looks like from outside: sizes, contracts, components. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...errors import WeightsError
from ...specs import ComponentSpec, Contract, Port, Stage, WeightsRef
from ...stages import Build

FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
"""What a family's `WeightsRef` fetches beside config.json."""

SAMPLE_RATE = 16000.0
"""All families hear 16 kHz."""


@dataclass(frozen=True)
class Size:
    """A number of config.json: the dotted paths it may stand at (published configs use older names, too), and
    what transformers takes where config.json leaves it out."""

    paths: tuple[str, ...]
    default: int | None = None

    def of(self, config: Mapping[str, Any]) -> int:
        """Raises: WeightsError when it stands nowhere and has no default."""
        for path in self.paths:
            value: Any = config
            for key in path.split("."):
                value = value.get(key) if isinstance(value, Mapping) else None
            if value is not None:
                return int(value)
        if self.default is None:
            raise WeightsError(
                f"config.json has no {' or '.join(self.paths)}.", "Is this a checkpoint of the family's own layout?"
            )
        return self.default


@dataclass(frozen=True)
class Family:
    """A composite model of transformers as five stages.

    role: the role of its weights, which is also the namespace of its components.
    model: the name of its class in transformers.
    token: the placeholder token in its prompts.
    chat: the chat format of its prompts, as a layout name.
    n_mels, d_model, hidden_size: where the sizes of features, hidden vectors and embeddings stand.
    hidden_hz: encoder frames a second.
    merge: how many of them make one audio embedding.
    encoder, projector, llm: the modules' names in the model; the head is `lm_head` in all of them.
    feature_hz: feature frames a second.
    """

    role: str
    model: str
    token: str
    chat: str
    n_mels: Size
    d_model: Size
    hidden_size: Size
    hidden_hz: float
    merge: int = 1
    encoder: str = "model.audio_tower"
    projector: str = "model.multi_modal_projector"
    llm: str = "model.language_model"
    feature_hz: float = 100.0


def _features_port(build: Build, family: Family) -> Port:
    checkpoint = build.weights[family.role]
    n_mels = family.n_mels.of(checkpoint.config)
    return Port("features", dim=n_mels, rate_hz=family.feature_hz, layout="B F T", tag=checkpoint.name)


def _hidden_port(build: Build, family: Family) -> Port:
    checkpoint = build.weights[family.role]
    d_model = family.d_model.of(checkpoint.config)
    return Port("hidden", dim=d_model, rate_hz=family.hidden_hz, layout="B N D", tag=checkpoint.name)


def _embeds_port(build: Build, family: Family, rate_hz: float | None) -> Port:
    checkpoint = build.weights[family.role]
    hidden_size = family.hidden_size.of(checkpoint.config)
    return Port("embeds", dim=hidden_size, rate_hz=rate_hz, layout="B M H", tag=checkpoint.name)


def _prompt_port(family: Family) -> Port:
    return Port("prompt", layout=f"{family.chat} chat", token=family.token)


def _preprocessor(build: Build, family: Family) -> Contract:
    """16 kHz audio -> n_mels features."""
    return Contract((Port("audio", rate_hz=SAMPLE_RATE, layout="B S"),), (_features_port(build, family),))


def _encoder(build: Build, family: Family) -> Contract:
    """n_mels features -> d_model hidden vectors."""
    return Contract((_features_port(build, family),), (_hidden_port(build, family),))


def _projector(build: Build, family: Family) -> Contract:
    """d_model hidden vectors -> hidden_size audio embeddings, one for every `merge` of them."""
    return Contract((_hidden_port(build, family),), (_embeds_port(build, family, family.hidden_hz / family.merge),))


def _prompt_template(build: Build, family: Family) -> Contract:
    """A chat prompt that holds the family's placeholder token once; the audio embeddings take its place."""
    return Contract((), (_prompt_port(family),))


def _llm(build: Build, family: Family) -> Contract:
    """Audio embeddings of the LLM's hidden_size and a chat prompt -> text."""
    return Contract((_embeds_port(build, family, None), _prompt_port(family)), (Port("text"),))


_CONTRACTS = {
    Stage.PREPROCESSOR: _preprocessor,
    Stage.ENCODER: _encoder,
    Stage.PROJECTOR: _projector,
    Stage.PROMPT_TEMPLATE: _prompt_template,
    Stage.LLM: _llm,
}


def component(
    family: Family, weights: WeightsRef, stage: Stage, id: str, factory: str, title: str, **more: Any
) -> ComponentSpec:
    """A component of a family, with the contract that its stage has in every family.

    weights: the checkpoint that it reads unless the stack names another.
    more: further fields of `ComponentSpec`.
    """
    return ComponentSpec(
        stage=stage,
        id=id,
        factory=factory,
        title=title,
        contract=partial(_CONTRACTS[stage], family=family),
        weights={family.role: weights},
        family=family,
        **more,
    )

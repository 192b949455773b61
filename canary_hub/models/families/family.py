"""What one family of composite models looks like from outside. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import WeightsError

FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
"""What a family's `WeightsRef` fetches beside config.json."""


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

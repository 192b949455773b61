"""The checkpoint of a family: a composite model of transformers, which its stack takes apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import HubError
from ..models.families.family import Family
from ..specs import ComponentSpec, Stage
from .layout import Filled

HEAD = "lm_head.weight"
ADAPTER = "base_model.model."
"""What PEFT writes in front of the model's own names."""


def family_of(part: ComponentSpec) -> Family | None:
    """The family of an LLM backend, where it states one."""
    return part.family if isinstance(part.family, Family) else None


class CompositeLayout:
    """The tensors of a family's model, under the names that transformers has today.

    model: the whole model on the meta device.

    Args:
        config: the checkpoint's config.json.
        names: what its files hold, where they are on this machine: a head in them is used, whatever the config says.

    Raises: HubError when transformers cannot build the model.
    """

    def __init__(self, family: Family, config: Mapping[str, Any], names: Iterable[str] = ()) -> None:
        import torch
        import transformers

        self.family = family
        try:
            model_class = getattr(transformers, family.model)
            with torch.device("meta"):
                self.model: Any = model_class(model_class.config_class.from_dict(dict(config)))
        except Exception as error:  # whatever a config can do to a constructor
            raise HubError(
                f"transformers {transformers.__version__} builds no {family.model} from the config.json: {error}.",
                "The config must be that of the family's model, and transformers new enough to know it.",
            ) from error
        # Classes that never tie have configs that do not know the word.
        ties = bool(model_class._tied_weights_keys and self.model.config.tie_word_embeddings)
        tied = ties and HEAD not in map(self.todays, names)
        self.tied: tuple[tuple[str, str], ...] = ((HEAD, f"{family.llm}.embed_tokens.weight"),) if tied else ()

    @property
    def llm_config(self) -> dict[str, Any]:
        """The language model's own config, as AutoConfig reads it."""
        return {**self.model.config.get_text_config().to_dict(), "tie_word_embeddings": bool(self.tied)}

    def todays(self, name: str) -> str:
        """Older checkpoints and adapters put other words in front."""
        from ..models.families.parts import todays_name

        return todays_name(name.removeprefix(ADAPTER))

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Those of transformers' model, the tied head once."""
        shared = {name for name, _ in self.tied}
        return {name: tuple(tensor.shape) for name, tensor in self.model.state_dict().items() if name not in shared}

    def filled(self) -> Filled:
        """By the names of each part's module; the LLM's as `CausalLMBackend` holds it. An adapter's factors go where
        their linear is."""
        parts = {
            f"{self.family.encoder}.": (Stage.ENCODER.value, ""),
            f"{self.family.projector}.": (Stage.PROJECTOR.value, ""),
            f"{self.family.llm}.": (Stage.LLM.value, "model."),
            HEAD: (Stage.LLM.value, HEAD),
        }
        found = {}
        for name in self.model.state_dict():
            start = next((start for start in parts if name.startswith(start)), None)
            if start is not None:
                stage, prefix = parts[start]
                found[name] = (stage, prefix + name.removeprefix(start))
        for name, (stage, inner) in list(found.items()):
            for half in ("lora_A", "lora_B"):
                factor = f"{name.removesuffix('.weight')}.{half}.weight"
                found[factor] = (stage, f"{inner} += scaling * B A")
        return found

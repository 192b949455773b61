"""How a stack's checkpoint is laid out: which tensors its configuration asks for, and which module each fills."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ..errors import HubError
from ..models.canary_qwen.layout import (
    EMBEDDINGS,
    FILTERBANK,
    PROJECTION,
    WINDOW,
    checkpoint_shapes,
    encoder_name,
    llm_name,
    lora_names,
    lora_targets,
)
from ..models.families.family import Family
from ..specs import Stage

Filled = Mapping[str, tuple[str, str]]
"""A tensor's name -> the stage it belongs to, and the tensor of that stage's module that it fills."""

HEAD = "lm_head.weight"
UPDATE = "+= scaling * B A"
"""What an adapter's factors do to a weight."""


class Layout(Protocol):
    """The names in a checkpoint.

    tied: (a module's tensor, the tensor of the file that it shares).
    """

    tied: tuple[tuple[str, str], ...]

    def todays(self, name: str) -> str:
        """A name in the file -> the one by which `shapes` and `filled` know it."""
        ...

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor that the configuration asks for."""
        ...

    def filled(self) -> Filled:
        """Where each tensor goes, as the components load them; those of an adapter may be here alone."""
        ...


class PublishedLayout:
    """That of nvidia/canary-qwen-2.5b.

    Args:
        config, llm_config: the config.json of the checkpoint and of the base LLM.
    """

    def __init__(self, config: Mapping[str, Any], llm_config: Mapping[str, Any]) -> None:
        self._config, self._llm = config, llm_config
        self.tied: tuple[tuple[str, str], ...] = ((HEAD, EMBEDDINGS),) if llm_config.get("tie_word_embeddings") else ()

    def todays(self, name: str) -> str:
        """The same."""
        return name

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """With LoRA's two factors beside each linear that it wraps."""
        return checkpoint_shapes(self._config, self._llm)

    def filled(self) -> Filled:
        """By the names of the Canary-Qwen components."""
        import torch
        from transformers import ParakeetEncoder

        from ..models.canary_qwen.encoder import encoder_config

        with torch.device("meta"):
            encoder = ParakeetEncoder(encoder_config(self._config))
        llm, wrapped = empty_llm(self._llm), lora_targets(self._config)
        filled = {
            FILTERBANK: (Stage.PREPROCESSOR.value, "mel_filters"),
            WINDOW: (Stage.PREPROCESSOR.value, "window"),
            f"{PROJECTION}.weight": (Stage.PROJECTOR.value, "weight"),
            f"{PROJECTION}.bias": (Stage.PROJECTOR.value, "bias"),
        }
        for name in encoder.state_dict():
            filled[encoder_name(name)] = (Stage.ENCODER.value, name)
        for name in llm.state_dict():
            module = name.rsplit(".", 1)[0]
            lora = module.rsplit(".", 1)[-1] in wrapped
            filled.setdefault(llm_name(name, lora=lora), (Stage.LLM.value, name))
            if lora:
                filled |= dict.fromkeys(lora_names(module), (Stage.LLM.value, f"{name} {UPDATE}"))
        return filled


class CompositeLayout:
    """That of a family: a composite model of transformers, which its stack takes apart.

    Args:
        config: the checkpoint's config.json.
        names: what its files hold, where they are on this machine: a head in them is used, whatever the config says.

    Raises: HubError when transformers cannot build the model.
    """

    def __init__(self, family: Family, config: Mapping[str, Any], names: Iterable[str] = ()) -> None:
        from ..models.families.parts import empty_model

        self._family = family
        self._model, tied = empty_model(family, config, set(map(self.todays, names)))
        self.tied: tuple[tuple[str, str], ...] = ((HEAD, f"{family.llm}.embed_tokens.weight"),) if tied else ()

    @property
    def llm_config(self) -> dict[str, Any]:
        """The language model's own config, as AutoConfig reads it."""
        return {**self._model.config.get_text_config().to_dict(), "tie_word_embeddings": bool(self.tied)}

    def todays(self, name: str) -> str:
        """Older checkpoints put other words in front, and PEFT its own in front of an adapter's."""
        from ..models.families.parts import todays_name

        return todays_name(name.removeprefix("base_model.model."))

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Those of transformers' model; a tied head is no tensor of its own."""
        from ..models.families.parts import shapes_of

        return shapes_of(self._model, bool(self.tied))

    def filled(self) -> Filled:
        """By the names of each part's module; the LLM's as `CausalLMBackend` holds it. An adapter's factors go where
        their linear is."""
        starts = {
            f"{self._family.encoder}.": (Stage.ENCODER.value, ""),
            f"{self._family.projector}.": (Stage.PROJECTOR.value, ""),
            f"{self._family.llm}.": (Stage.LLM.value, "model."),
            HEAD: (Stage.LLM.value, HEAD),
        }
        filled = {}
        for name in self._model.state_dict():
            start = next((start for start in starts if name.startswith(start)), None)
            if start is None:
                continue
            stage, prefix = starts[start]
            target = prefix + name.removeprefix(start)
            filled[name] = (stage, target)
            for half in ("lora_A", "lora_B"):
                filled[f"{name.removesuffix('.weight')}.{half}.weight"] = (stage, f"{target} {UPDATE}")
        return filled


def empty_llm(config: Mapping[str, Any]) -> Any:
    """The transformers module that a config.json of a causal language model describes, on the meta device.

    Raises: HubError.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    except Exception as error:  # whatever a config can do to a constructor
        raise HubError(
            f"transformers cannot build the language model from its config.json: {error}.",
            "The config must be that of a causal language model that the installed transformers knows.",
        ) from error

"""Five explorations of a speech-LLM: model structure, LoRA, weight loading, embedding injection, generation.

>>> from canary_hub import Hub
>>> from canary_hub.explore import explore
>>> from canary_hub.explore.report import sections
>>> structure = explore("structure", Hub(), "canary-qwen-2.5b")  # from its configuration: no weights needed
>>> structure.parameters
1720574976
>>> sections(structure)  # the same as titled sections with one sentence, tables and charts each

Each gives a frozen dataclass of plain values (`to_json`). Where the weights are not on this machine, it shows
what follows from the configuration, and says in `limits` what it cannot show; nothing is ever downloaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UnknownNameError

if TYPE_CHECKING:
    from ..hub import Hub
    from ..specs import StackSpec
    from .exploration import Exploration


class About(NamedTuple):
    """module: of this package, and of `report`. sentence: what one sees."""

    module: str
    sentence: str


EXPLORATIONS = {
    "structure": About(
        "structure",
        "The LLM's modules with their shapes, its parameters by part, its KV cache; from its configuration alone.",
    ),
    "lora": About("lora", "What LoRA adds to which weights, how large each update is, and what it does to one clip."),
    "weights": About(
        "tensors", "A checkpoint's tensors: groups, dtypes, bytes, and which module each fills; headers are read alone."
    ),
    "injection": About(
        "injection", "How audio embeddings take the placeholder's place in the prompt, in one row and in a batch."
    ),
    "generation": About(
        "generation", "Token by token: probabilities and times, limits, drawn tokens, adapter off, what ends an answer."
    ),
}
"""By name, in the order of a lecture."""


def explore(name: str, hub: Hub, stack: str | StackSpec, **options: Any) -> Exploration:
    """Run one exploration of `EXPLORATIONS`; `options` go to its module's `explore`.

    Raises: UnknownNameError; HubError where the stack has nothing of the kind; what loading it raises.
    """
    if name not in EXPLORATIONS:
        raise UnknownNameError(f"There is no exploration {name!r}.", f"Choose one of {', '.join(EXPLORATIONS)}.")
    module = importlib.import_module(f".{EXPLORATIONS[name].module}", __name__)
    result: Exploration = module.explore(hub, stack, **options)
    return result

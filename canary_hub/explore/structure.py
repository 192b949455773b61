"""Exploration `structure`: what the language model is made of, from its config.json alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..specs import StackSpec
from .exploration import Exploration
from .layout import empty_llm
from .subject import Subject

if TYPE_CHECKING:
    import torch

    from ..hub import Hub

PARTS = (
    ("embeddings", ("embed_tokens",)),
    ("attention (q, k, v, o)", ("q_proj", "k_proj", "v_proj", "o_proj")),
    ("q and k norms", ("q_norm", "k_norm")),
    ("feed-forward (gate, up, down)", ("gate_proj", "up_proj", "down_proj")),
    ("layer norms", ("input_layernorm", "post_attention_layernorm", "norm")),
    ("lm_head", ("lm_head",)),
)
"""Parts of the model by the names of their modules in transformers; the rest is "other"."""


@dataclass(frozen=True)
class Module:
    """A module of the tree; equal layers stand there once.

    path: dotted, equal ones as a range: "model.layers.0-27.mlp". depth: how deep in the tree.
    shape: of its weight, (rows, columns); empty without one.
    parameters: of one copy, what is tied to an earlier module not counted; copies: how many in the model.
    tied_to: the path of the module whose weight it uses.
    """

    path: str
    kind: str
    depth: int
    shape: tuple[int, ...]
    parameters: int
    copies: int
    tied_to: str = ""


@dataclass(frozen=True)
class Part:
    """The parameters of one part over all layers."""

    name: str
    parameters: int


@dataclass(frozen=True)
class Cache:
    """The KV cache, in bytes of the stack's dtype.

    bytes_per_token: keys and values of one position over all layers, one row of a batch.
    without_groups: the same if every query head had its own keys and values (no GQA).
    """

    dtype: str
    bytes_per_token: int
    without_groups: int


@dataclass(frozen=True)
class Structure(Exploration):
    """The language model. `parameters` counts tied weights once; `rope_theta` is the rotary base."""

    exploration: ClassVar[str] = "structure"

    architecture: str
    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    tied: bool
    qk_norm: bool
    activation: str
    rope_theta: float | None
    max_positions: int
    parameters: int
    modules: tuple[Module, ...]
    parts: tuple[Part, ...]
    cache: Cache


def explore(hub: Hub, stack: str | StackSpec, *, dtype: str | None = None, device: str | None = None) -> Structure:
    """Build the stack's LLM on the meta device and look at it; no weights are read.

    Raises: HubError when its config describes no model that transformers knows.
    """
    import torch

    subject = Subject(hub, stack, dtype, device)
    config = subject.llm_config
    model = empty_llm(config)
    owners = _owners(model)
    parameters = {name: p.numel() for name, p in model.named_parameters()}
    read = model.config
    heads, layers = int(read.num_attention_heads), int(read.num_hidden_layers)
    kv_heads = int(getattr(read, "num_key_value_heads", None) or heads)
    head_dim = int(getattr(read, "head_dim", None) or read.hidden_size // heads)
    per_head = 2 * layers * head_dim * getattr(torch, subject.dtype).itemsize
    modules = tuple(_walk(model, "", 0, 1, parameters, owners))
    return Structure(
        stack=subject.spec.name,
        limits=subject.assumed,
        architecture=type(model).__name__,
        vocab_size=int(read.vocab_size),
        hidden_size=int(read.hidden_size),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=int(read.intermediate_size),
        tied=any(module.tied_to for module in modules),
        qk_norm=any(module.path.endswith(".q_norm") for module in modules),
        activation=str(read.hidden_act),
        rope_theta=config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta"),
        max_positions=int(read.max_position_embeddings),
        parameters=sum(parameters.values()),
        modules=modules,
        parts=_parts(parameters),
        cache=Cache(subject.dtype, per_head * kv_heads, per_head * heads),
    )


def _owners(model: torch.nn.Module) -> dict[int, str]:
    """id of a parameter -> the module that has it first."""
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), name)
    return owners


def _walk(
    module: torch.nn.Module,
    path: str,
    depth: int,
    copies: int,
    parameters: Mapping[str, int],
    owners: Mapping[int, str],
    name: str = "",
) -> Iterator[Module]:
    """The tree in order. `name` is the real path of the first copy, by which parameters are found."""
    weight = getattr(module, "weight", None)
    owner = name if weight is None else owners.get(id(weight), name)
    prefix = f"{name}." if name else ""
    yield Module(
        path=path,
        kind=type(module).__name__,
        depth=depth,
        shape=() if weight is None else tuple(weight.shape),
        parameters=sum(n for key, n in parameters.items() if key.startswith(prefix)),
        copies=copies,
        tied_to="" if owner == name else owner,
    )
    children = list(module.named_children())
    dotted = f"{path}." if path else ""
    while children:
        key, child = children[0]
        same = 1
        if key.isdigit():
            same = next((i for i, (_, c) in enumerate(children) if str(c) != str(child)), len(children))
        label = key if same == 1 else f"{key}-{children[same - 1][0]}"
        yield from _walk(child, dotted + label, depth + 1, copies * same, parameters, owners, prefix + key)
        children = children[same:]


def _parts(parameters: Mapping[str, int]) -> tuple[Part, ...]:
    sums = {name: 0 for name, _ in PARTS}
    for name, n in parameters.items():
        module = name.rsplit(".", 2)[-2]
        part = next((part for part, modules in PARTS if module in modules), "other")
        sums[part] = sums.get(part, 0) + n
    return tuple(Part(name, n) for name, n in sums.items())

"""Exploration `lora`: what the adapter adds, and what it changes.

From the configuration: PEFT itself wraps the LLM on the meta device. With the weights: the updates'
singular values, the proof that the loaded weights are base + scaling * B A, and one clip with it on and off.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import HubError
from ..models.canary_qwen.checkpoint import CHECKPOINT
from ..run.result import Alternative
from ..specs import StackSpec, Stage
from .exploration import Exploration
from .layout import empty_llm
from .subject import Subject, first_window

if TYPE_CHECKING:
    import torch

    from ..hub import Hub
    from ..pipeline import Stack
    from ..stages import Tensors

ENERGY = 0.9
"""`Update.rank_90`: how many directions hold this share of an update's squared norm."""


@dataclass(frozen=True)
class Target:
    """A kind of linear that LoRA wraps, the same in every layer.

    before: (out, in) of its own weight. a: (r, in). b: (out, r).
    frozen, trainable: parameters of one such linear; layers: how many there are.
    """

    name: str
    before: tuple[int, int]
    a: tuple[int, int]
    b: tuple[int, int]
    frozen: int
    trainable: int
    layers: int


@dataclass(frozen=True)
class Update:
    """The update scaling * B A of one weight, read from the checkpoint.

    module: the linear's path in the LLM. singular_values: descending, r of them.
    norm: Frobenius norm of the update; base_norm: of the weight it is added to.
    rank_90: how many singular values hold 90 % of the squared norm.
    """

    module: str
    layer: int
    target: str
    singular_values: tuple[float, ...]
    norm: float
    base_norm: float
    rank_90: int


@dataclass(frozen=True)
class Proof:
    """The loaded weights against base + scaling * B A, computed anew in float64.

    max_difference: the largest over all elements of all wrapped weights.
    max_update: the largest element of all updates, for scale.
    rounding: what rounding the largest weight once to `dtype` can change.
    """

    dtype: str
    weights: int
    max_difference: float
    max_update: float
    rounding: float


@dataclass(frozen=True)
class Heard:
    """What the stack wrote for the clip.

    confidence: geometric mean of its tokens' probabilities. first: what the first token could be, likely ones first.
    """

    adapter: bool
    text: str
    tokens: int
    confidence: float | None
    first: tuple[Alternative, ...]
    note: str | None


@dataclass(frozen=True)
class Lora(Exploration):
    """The adapter. Without weights `updates` and `heard` are empty and `proof` is None.

    total, trainable, frozen: parameters of the LLM with its adapter, tied weights counted once.
    """

    exploration: ClassVar[str] = "lora"

    rank: int
    alpha: int
    scaling: float
    targets: tuple[Target, ...]
    total: int
    trainable: int
    frozen: int
    updates: tuple[Update, ...]
    proof: Proof | None
    clip: str
    heard: tuple[Heard, ...]


def explore(
    hub: Hub,
    stack: str | StackSpec,
    *,
    audio: Any | None = None,
    dtype: str | None = None,
    device: str | None = None,
) -> Lora:
    """Look at the adapter of a stack whose LLM comes from a checkpoint in the published layout.

    Args:
        audio: the clip to hear with the adapter on and off; a shipped one by default.

    Raises: HubError when there is no LoRA; AudioError; what loading raises.
    """
    import torch

    subject = Subject(hub, stack, dtype, device)
    if subject.family is not None:
        raise HubError(
            f"Stack {subject.spec.name} has no LoRA in the layout of nvidia/canary-qwen-2.5b, the only one shown here.",
            "Choose nano or canary-qwen-2.5b.",
        )
    if not subject.in_published_layout or not subject.config.get("lora"):
        raise HubError(
            f"The LLM of stack {subject.spec.name} ({subject.llm.id}) has no LoRA section in a config.json.",
            "Choose a stack with an adapter, such as nano or canary-qwen-2.5b.",
        )
    adapted, linears, scaling = _adapted(subject)
    trainable, total = adapted.get_nb_trainable_parameters()
    files = subject.checkpoints[CHECKPOINT].tensors() if subject.checkpoints[CHECKPOINT].available else None
    proof: Proof | None = None
    clip = ""
    heard: tuple[Heard, ...] = ()
    limits: tuple[str, ...] = ()
    if files is None or subject.missing:
        what = "Proof and effect" if files else "Updates, proof and effect"
        limits = (f"{what} need all weights. {subject.missing}.",)
    else:
        with subject.load() as loaded:
            clip, heard, limits = _effect(loaded, audio)
            # After the clip was heard with the adapter on: the linears hold what that run used.
            with torch.no_grad():
                proof = _proof(loaded, files, list(linears), scaling)
        if proof is None:
            limits = (*limits, f"{subject.llm.id} keeps no weights to compare with base + scaling * B A.")
    lora = subject.config["lora"]
    return Lora(
        stack=subject.spec.name,
        limits=limits,
        rank=int(lora["r"]),
        alpha=int(lora["lora_alpha"]),
        scaling=scaling,
        targets=_targets(linears),
        total=int(total),
        trainable=int(trainable),
        frozen=int(total - trainable),
        updates=tuple(_update(files, name, scaling) for name in linears) if files else (),
        proof=proof,
        clip=clip,
        heard=heard,
    )


def _adapted(subject: Subject) -> tuple[Any, dict[str, Any], float]:
    """The LLM as PEFT wraps it, on the meta device; the wrapped linears by path; PEFT's own scaling."""
    import torch
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    lora = subject.config["lora"]
    model = empty_llm(subject.llm_config)
    with torch.device("meta"), warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5.23 for an attribute under its old name.
        warnings.simplefilter("ignore", FutureWarning)
        adapted = get_peft_model(
            model,
            LoraConfig(
                r=int(lora["r"]),
                lora_alpha=int(lora["lora_alpha"]),
                target_modules=list(lora["target_modules"]),
                task_type="CAUSAL_LM",
            ),
        )
    # PEFT puts its layers into `model` itself, whose paths are those of the loaded LLM.
    linears = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    scaling = next(iter(linears.values())).scaling["default"]
    return adapted, linears, float(scaling)


def _targets(linears: dict[str, Any]) -> tuple[Target, ...]:
    kinds: dict[str, list[Any]] = {}
    for path, module in linears.items():
        kinds.setdefault(path.rsplit(".", 1)[-1], []).append(module)
    targets = []
    for name, modules in kinds.items():
        first = modules[0]
        a, b = first.lora_A["default"].weight, first.lora_B["default"].weight
        before = first.base_layer.weight
        targets.append(
            Target(name, tuple(before.shape), tuple(a.shape), tuple(b.shape), before.numel(), a.numel() + b.numel(),
                   len(modules))
        )  # fmt: skip
    return tuple(targets)


def singular_values(a: torch.Tensor, b: torch.Tensor, scaling: float) -> torch.Tensor:
    """The r singular values of scaling * B A, descending: (r, in), (out, r) -> (r,) float64.

    With B = Qb Rb and A^T = Qa Ra, B A = Qb (Rb Ra^T) Qa^T has those of the small r x r matrix Rb Ra^T.
    """
    import torch

    rb = torch.linalg.qr(b.double(), mode="r").R
    ra = torch.linalg.qr(a.double().T, mode="r").R
    values: torch.Tensor = torch.linalg.svdvals(rb @ ra.T) * scaling
    return values


def _factors(files: Tensors, module: str) -> Iterator[torch.Tensor]:
    """The base weight, A and B of a wrapped linear, as the file has them."""
    from ..models.canary_qwen.layout import llm_name, lora_names

    for name in (llm_name(f"{module}.weight", lora=True), *lora_names(module)):
        yield files.tensor(name)


def _update(files: Tensors, module: str, scaling: float) -> Update:
    base, a, b = _factors(files, module)
    values = singular_values(a, b, scaling)
    energy = values.square()
    share = energy.cumsum(0) / energy.sum().clamp(min=1e-300)
    return Update(
        module=module,
        layer=next((int(piece) for piece in module.split(".") if piece.isdigit()), 0),
        target=module.rsplit(".", 1)[-1],
        singular_values=tuple(round(value, 6) for value in values.tolist()),
        norm=float(energy.sum().sqrt()),
        base_norm=float(base.float().norm()),
        rank_90=int((share < ENERGY).sum()) + 1,
    )


def _proof(stack: Stack, files: Tensors, modules: list[str], scaling: float) -> Proof | None:
    """Every loaded weight against its factors; None where the backend keeps no such weights."""
    import torch

    model = getattr(stack.component(Stage.LLM), "model", None)
    difference = update = largest = 0.0
    dtype = torch.float32
    for module in modules:
        base, a, b = (part.double() for part in _factors(files, module))
        delta = scaling * (b @ a)
        expected = base + delta
        linear = model.get_submodule(module) if isinstance(model, torch.nn.Module) else None
        loaded = None if linear is None else _loaded(linear)
        if loaded is None or loaded.shape != expected.shape:
            return None
        dtype = loaded.dtype
        difference = max(difference, float((loaded.cpu().double() - expected).abs().max()))
        update = max(update, float(delta.abs().max()))
        largest = max(largest, float(expected.abs().max()))
    # A number in [2^e, 2^(e+1)) is rounded by at most 2^e * eps / 2, so by no more than itself * eps / 2.
    rounding = largest * torch.finfo(dtype).eps / 2
    return Proof(str(dtype).removeprefix("torch."), len(modules), difference, update, rounding)


def _loaded(linear: Any) -> torch.Tensor | None:
    """The weight that a loaded linear multiplies by: its own, or PEFT's base plus PEFT's delta."""
    if hasattr(linear, "get_delta_weight"):
        merged: torch.Tensor = linear.base_layer.weight + linear.get_delta_weight("default")
        return merged
    weight: torch.Tensor | None = getattr(linear, "weight", None)
    return weight


def _effect(stack: Stack, audio: Any | None) -> tuple[str, tuple[Heard, ...], tuple[str, ...]]:
    """The clip's name, and what was written with the adapter off and then on."""
    wave, cut = first_window(stack.spec, stack.rate, audio)
    if "adapter" not in stack.parts[Stage.LLM].call_options.model_fields:
        return wave.name, (), (*cut, f"{stack.parts[Stage.LLM].id} has no option to switch the adapter off.")
    return wave.name, tuple(_heard(stack, wave, on) for on in (False, True)), cut


def _heard(stack: Stack, wave: Any, adapter: bool) -> Heard:
    result = stack.transcribe(wave, details=True, adapter=adapter)
    assert result.trace is not None
    tokens = [token for segment in result.trace.segments for token in segment.tokens]
    first: list[Alternative] = []
    if tokens:
        written = Alternative(tokens[0].id, tokens[0].piece, tokens[0].probability)
        first = sorted((written, *tokens[0].alternatives), key=lambda token: -token.probability)
    segment = result.segments[0]
    return Heard(adapter, result.text, segment.tokens, segment.confidence, tuple(first), segment.note)

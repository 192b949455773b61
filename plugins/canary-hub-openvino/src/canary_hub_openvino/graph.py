"""Qwen3 as a graph of OpenVINO's operations, written out: nothing is traced, so nothing depends on how transformers
happens to compute it.

Attention, its cache, RMSNorm and rotary embeddings are spelled the way OpenVINO's CPU plugin looks for to put its own
kernels there (its passes stateful_sdpa_fusion, rms_fusion and fuse_rotary_positional_embeddings).

Shapes: B rows, L new positions, S positions so far and new, H hidden_size, D head_dim.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops

from canary_hub.errors import WeightsError

VERSION = 1
"""Raise it with every change that makes graphs kept on disk out of date."""

WIDENED = "widened_"
"""Begins the names of the nodes that widen weights."""

HIDDEN_BELOW = -1e9
"""Added to the scores of positions that are not attended to. Finite, since a row of padding hides all of them."""

# What a Qwen3 config may ask for and this graph does not compute.
_ONLY = {"attention_bias": False, "use_sliding_window": False, "hidden_act": "silu"}

Weight = Callable[[str], torch.Tensor]
"""A state-dict name of transformers' Qwen3ForCausalLM -> its tensor, (out, in) for a linear."""

Adapter = Callable[[str], "tuple[torch.Tensor, torch.Tensor] | None"]
"""A module name -> LoRA's A (r, in) and scaling * B (out, r), or None where it has none."""


def qwen3(config: Any, weight: Weight, adapter: Adapter) -> ov.Model:
    """All layers and the last norm.

    Inputs: inputs_embeds (B, L, H) float32, attention_mask (B, S) int64, position_ids (B, L) int64, beam_idx (B,)
    int32, the row that each row goes on from, and adapter () float32, 1 with LoRA, 0 without. Output: hidden
    (B, L, H) float32. Keys and values of the positions so far, (B, key heads, S, D), are states of the infer request:
    variables key_<layer> and value_<layer>.

    Args:
        config: transformers' Qwen3Config.

    Raises: WeightsError for a variant of Qwen3 that is not computed here.
    """
    for key, value in _ONLY.items():
        if getattr(config, key) != value:
            raise _not_computed(f"{key} = {getattr(config, key)!r}")
    if config.rope_parameters["rope_type"] != "default":
        raise _not_computed(f"rope_type {config.rope_parameters['rope_type']!r}")
    embeds = _input([-1, -1, config.hidden_size], ov.Type.f32, "inputs_embeds")
    mask = _input([-1, -1], ov.Type.i64, "attention_mask")
    positions = _input([-1, -1], ov.Type.i64, "position_ids")
    beams = _input([-1], ov.Type.i32, "beam_idx")
    on = _input([], ov.Type.f32, "adapter")
    layers = _Layers(config, weight, adapter, on, beams)
    layers.see(embeds, mask, positions)
    x = embeds
    for i in range(config.num_hidden_layers):
        x = layers.layer(i, x)
    hidden = layers.norm(x, "model.norm")
    hidden.output(0).set_names({"hidden"})
    return ov.Model([hidden.output(0)], layers.assigned, [embeds, mask, positions, beams, on], "qwen3")


def head(weight: torch.Tensor) -> ov.Model:
    """A linear without bias, (out, in): input "hidden" (B, in) float32, output "logits" (B, out) float32."""
    hidden = _input([-1, weight.shape[1]], ov.Type.f32, "hidden")
    logits = ops.matmul(hidden, constant(weight), False, True)
    logits.output(0).set_names({"logits"})
    return ov.Model([logits.output(0)], [hidden], "head")


def constant(tensor: torch.Tensor) -> ov.Node:
    """A tensor as a float32 node; bfloat16 stays bfloat16 in it, to be widened by a Convert that `save` marks."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype != torch.bfloat16:
        return ops.constant(tensor.float().numpy())
    bits = ov.Tensor(tensor.view(torch.int16).numpy(), ov.Shape(tensor.shape), ov.Type.bf16)
    # Copied: an ov.Tensor does not keep its array alive.
    widened = ops.convert(ov.op.Constant(bits, shared_memory=False), ov.Type.f32)
    widened.set_friendly_name(f"{WIDENED}{widened.get_friendly_name()}")
    return widened


def narrow(model: ov.Model) -> None:
    """Keep the float32 matrices of a graph as bfloat16, in place. Without loss where they were bfloat16 before."""
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() == ov.Type.f32 and len(node.shape) > 1:
            narrowed = constant(torch.from_numpy(node.data.copy()).bfloat16())
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(narrowed.output(0))


def save(model: ov.Model, path: Path) -> None:
    """Write `path` (.xml) and the weights beside it (.bin).

    The Converts of bfloat16 weights get the attribute "decompression", which Python cannot set on a node: without it
    the CPU plugin widens the weights to float32 when it loads them, and holds twice the memory.
    """
    ov.save_model(model, path, compress_to_fp16=False)
    tree = ElementTree.parse(path)
    for layer in tree.iterfind("layers/layer"):
        if layer.get("type") == "Convert" and layer.get("name", "").startswith(WIDENED):
            info = ElementTree.Element("rt_info")
            ElementTree.SubElement(info, "attribute", name="decompression", version="0")
            layer.insert(1, info)
    tree.write(path, encoding="utf-8", xml_declaration=True)


def _not_computed(what: str) -> WeightsError:
    return WeightsError(
        f"The base LLM's config.json asks for {what}, which the OpenVINO graph does not compute.",
        "Choose the LLM backend canary/qwen3 for this checkpoint.",
    )


class _Layers:
    """The parts of the graph; `assigned` collects the writes of the states."""

    def __init__(self, config: Any, weight: Weight, adapter: Adapter, on: ov.Node, beams: ov.Node) -> None:
        self.config, self.weight, self.adapter, self.on, self.beams = config, weight, adapter, on, beams
        self.heads, self.key_heads, self.dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.assigned: list[ov.Node] = []

    def see(self, embeds: ov.Node, mask: ov.Node, positions: ov.Node) -> None:
        """What all layers share: the empty cache, who attends to whom, and the rotations."""
        sizes = ops.shape_of(embeds, "i64")
        rows, new = (ops.gather(sizes, _ints([axis]), _int(0)) for axis in (0, 1))
        total = ops.gather(ops.shape_of(mask, "i64"), _ints([1]), _int(0))
        shape = ops.concat([rows, _ints([self.key_heads, 0, self.dim])], 0)
        self.nothing_yet = ops.broadcast(ops.constant(np.float32(0)), shape)
        columns = ops.range(_int(0), _scalar(total), _int(1), "i64")
        own = ops.unsqueeze(ops.range(_scalar(ops.subtract(total, new)), _scalar(total), _int(1), "i64"), _int(1))
        before = ops.less_equal(ops.unsqueeze(columns, _int(0)), own)  # (L, S)
        heard = ops.unsqueeze(ops.not_equal(mask, _int(0)), _ints([1, 2]))  # (B, 1, 1, S)
        seen = ops.logical_and(heard, before)
        self.bias = ops.select(seen, ops.constant(np.float32(0)), ops.constant(np.float32(HIDDEN_BELOW)))
        theta = self.config.rope_parameters["rope_theta"]
        frequencies = 1.0 / theta ** (np.arange(0, self.dim, 2, dtype=np.float64) / self.dim)
        angles = ops.multiply(
            ops.unsqueeze(ops.convert(positions, "f32"), _ints([1, 3])),
            ops.constant(frequencies.astype(np.float32).reshape(1, 1, 1, -1)),
        )
        angles = ops.concat([angles, angles], -1)  # (B, 1, L, D)
        self.cos, self.sin = ops.cos(angles), ops.sin(angles)

    def layer(self, i: int, x: ov.Node) -> ov.Node:
        """(B, L, H) -> (B, L, H)."""
        at = f"model.layers.{i}"
        x = ops.add(x, self.attention(i, self.norm(x, f"{at}.input_layernorm")))
        normed = self.norm(x, f"{at}.post_attention_layernorm")
        gate = ops.swish(self.linear(normed, f"{at}.mlp.gate_proj"))
        gated = ops.multiply(gate, self.linear(normed, f"{at}.mlp.up_proj"))
        return ops.add(x, self.linear(gated, f"{at}.mlp.down_proj"))

    def attention(self, i: int, x: ov.Node) -> ov.Node:
        """(B, L, H) -> (B, L, H); the new keys and values join the state."""
        at = f"model.layers.{i}.self_attn"
        query = self.rotated(self.norm(self.split(x, f"{at}.q_proj", self.heads), f"{at}.q_norm"))
        key = self.rotated(self.norm(self.split(x, f"{at}.k_proj", self.key_heads), f"{at}.k_norm"))
        value = ops.transpose(self.split(x, f"{at}.v_proj", self.key_heads), _HEADS_FIRST)
        out = ops.scaled_dot_product_attention(
            query, self.with_past(key, f"key_{i}"), self.with_past(value, f"value_{i}"), self.bias
        )
        joined = ops.reshape(ops.transpose(out, _HEADS_FIRST), _ints([0, 0, self.heads * self.dim]), special_zero=True)
        return self.linear(joined, f"{at}.o_proj")

    def with_past(self, new: ov.Node, name: str) -> ov.Node:
        """(B, key heads, L, D) -> (B, heads, S, D): behind what the state holds, and kept there."""
        shape = ov.PartialShape([-1, self.key_heads, -1, self.dim])
        past = ops.read_value(self.nothing_yet, name, ov.Type.f32, shape)
        both = ops.concat([ops.gather(past, self.beams, _int(0)), new], 2)
        self.assigned.append(ops.assign(both, name))
        shared = self.heads // self.key_heads
        if shared == 1:
            return both
        spread = ops.broadcast(
            ops.unsqueeze(both, _int(2)), _ints([1, 1, shared, 1, 1]), broadcast_spec="BIDIRECTIONAL"
        )
        return ops.reshape(spread, _ints([0, self.heads, -1, self.dim]), special_zero=True)

    def rotated(self, x: ov.Node) -> ov.Node:
        """(B, L, heads, D) -> (B, heads, L, D), rotated to its position."""
        x = ops.transpose(x, _HEADS_FIRST)
        halves = ops.variadic_split(x, _int(3), _ints([self.dim // 2, self.dim // 2]))
        turned = ops.concat([ops.multiply(halves.output(1), ops.constant(np.float32(-1))), halves.output(0)], -1)
        return ops.add(ops.multiply(x, self.cos), ops.multiply(turned, self.sin))

    def split(self, x: ov.Node, name: str, heads: int) -> ov.Node:
        """(B, L, H) -> (B, L, heads, D)."""
        return ops.reshape(self.linear(x, name), _ints([0, 0, heads, self.dim]), special_zero=True)

    def norm(self, x: ov.Node, name: str) -> ov.Node:
        """RMSNorm over the last axis."""
        square = ops.reduce_mean(ops.power(x, ops.constant(np.float32(2))), _ints([-1]), keep_dims=True)
        root = ops.sqrt(ops.add(square, ops.constant(np.float32(self.config.rms_norm_eps))))
        unit = ops.multiply(x, ops.divide(ops.constant(np.float32(1)), root))
        return ops.multiply(unit, constant(self.weight(f"{name}.weight").float()))

    def linear(self, x: ov.Node, name: str) -> ov.Node:
        """x W^T, and where the adapter has a part and is on, + x A^T (scaling * B)^T."""
        out = ops.matmul(x, constant(self.weight(f"{name}.weight")), False, True)
        update = self.adapter(name)
        if update is None:
            return out
        a, b = update
        low = ops.multiply(ops.matmul(x, constant(a), False, True), self.on)
        return ops.add(out, ops.matmul(low, constant(b), False, True))


def _input(shape: list[int], kind: ov.Type, name: str) -> ov.Node:
    parameter = ops.parameter(shape, kind)
    parameter.output(0).set_names({name})
    return parameter


def _int(value: int) -> ov.Node:
    return ops.constant(np.int64(value))


def _ints(values: list[int]) -> ov.Node:
    return ops.constant(np.array(values, np.int64))


def _scalar(node: ov.Node) -> ov.Node:
    return ops.squeeze(node, _ints([0]))


_HEADS_FIRST = np.array([0, 2, 1, 3], np.int64)
"""(B, L, heads, D) <-> (B, heads, L, D)."""

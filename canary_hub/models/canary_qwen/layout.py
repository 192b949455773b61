"""The published layout of a Canary-Qwen checkpoint: names, shapes, and the way to module names.

Source: the safetensors header of `nvidia/canary-qwen-2.5b` (1718 tensors) and NeMo 2.7's
`SALM` module tree. Everything follows from the checkpoint's config.json and the base LLM's
config.json; no size of the 2.5B model appears here. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import WeightsError

Shapes = dict[str, tuple[int, ...]]

MAX_SIZE, MAX_LAYERS = 2**31 - 1, 1000
"""No config may name more; layers are listed one by one before anything is compared with the file."""

EMBEDDINGS = "embed_tokens.weight"
FILTERBANK = "perception.preprocessor.featurizer.fb"
WINDOW = "perception.preprocessor.featurizer.window"
PROJECTION = "perception.proj"
ENCODER_PREFIX = "perception.encoder."
LLM_PREFIX = "llm.base_model.model."
TIED_HEAD = LLM_PREFIX + "lm_head.weight"
"""Some exports write the head beside the embeddings it is tied to; it is known and unused."""

# transformers' ParakeetEncoder -> NeMo's ConformerEncoder, piece by piece of a dotted name.
_ENCODER_PIECES = (
    ("subsampling.layers", "pre_encode.conv"),
    ("subsampling.linear", "pre_encode.out"),
    ("self_attn.q_proj", "self_attn.linear_q"),
    ("self_attn.k_proj", "self_attn.linear_k"),
    ("self_attn.v_proj", "self_attn.linear_v"),
    ("self_attn.o_proj", "self_attn.linear_out"),
    ("self_attn.relative_k_proj", "self_attn.linear_pos"),
    ("self_attn.bias_u", "self_attn.pos_bias_u"),
    ("self_attn.bias_v", "self_attn.pos_bias_v"),
    ("conv.norm.", "conv.batch_norm."),
)


def encoder_name(module_name: str) -> str:
    """A `ParakeetEncoder` state-dict name -> its name in the checkpoint."""
    for ours, theirs in _ENCODER_PIECES:
        module_name = module_name.replace(ours, theirs)
    return ENCODER_PREFIX + module_name


def llm_name(module_name: str, lora: bool = False) -> str:
    """A `Qwen3ForCausalLM` state-dict name -> its name in the checkpoint.

    With `lora` the linear is one that LoRA wraps: PEFT keeps its own weight as `base_layer`.
    The embeddings live at top level, and the head is tied to them.
    """
    if module_name in ("model.embed_tokens.weight", "lm_head.weight"):
        return EMBEDDINGS
    if lora:
        module_name = re.sub(r"\.(weight|bias)$", r".base_layer.\1", module_name)
    return LLM_PREFIX + module_name


def lora_names(module_name: str) -> tuple[str, str]:
    """The checkpoint names of A (r, in) and B (out, r) for a wrapped linear such as
    "model.layers.0.self_attn.q_proj"."""
    return (
        f"{LLM_PREFIX}{module_name}.lora_A.default.weight",
        f"{LLM_PREFIX}{module_name}.lora_B.default.weight",
    )


def get(config: Mapping[str, Any], path: str, file: str = "config.json") -> Any:
    """The value at a dotted path; a missing key is an error that names it.

    Raises: WeightsError.
    """
    value: Any = config
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise WeightsError(
                f"The checkpoint's {file} has no {path!r}.",
                "Is this a folder in the layout of nvidia/canary-qwen-2.5b? The key is needed to build the model.",
            )
        value = value[key]
    return value


def size(config: Mapping[str, Any], path: str, file: str = "config.json", most: int = MAX_SIZE) -> int:
    """The whole number from 1 to `most` at a dotted path: nothing is built, or counted up to, from any other.

    Raises: WeightsError that names the key.
    """
    value = get(config, path, file)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise _unusable(file, path, value, f"whole number from 1 to {most:,}")
    return value


def number(config: Mapping[str, Any], path: str, file: str = "config.json") -> float:
    """The positive number at a dotted path. Raises: WeightsError that names the key."""
    value = get(config, path, file)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= MAX_SIZE:
        raise _unusable(file, path, value, "positive number")
    return float(value)


def text(config: Mapping[str, Any], path: str, file: str = "config.json") -> str:
    """The text at a dotted path, not empty. Raises: WeightsError that names the key."""
    value = get(config, path, file)
    if not isinstance(value, str) or not value:
        raise _unusable(file, path, value, "text")
    return value


def _unusable(file: str, path: str, value: Any, wanted: str) -> WeightsError:
    return WeightsError(
        f"The checkpoint's {file} has {path!r} = {value!r:.60}, no {wanted}.",
        "Was the file altered? Fetch it again from where the checkpoint was published.",
    )


def lora_targets(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The linears that LoRA wraps, such as ("q_proj", "v_proj"); empty without LoRA."""
    targets = get(config, "lora.target_modules") if config.get("lora") else []
    if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
        raise _unusable("config.json", "lora.target_modules", targets, "list of names")
    return tuple(targets)


def lora_scaling(config: Mapping[str, Any]) -> float:
    """alpha / r, the factor on B A (PEFT without rank-stabilised scaling)."""
    return number(config, "lora.lora_alpha") / number(config, "lora.r")


def encoder_shapes(config: Mapping[str, Any]) -> Shapes:
    """Every tensor under `perception.encoder.`, with its shape."""
    d = size(config, "perception.encoder.d_model")
    heads = size(config, "perception.encoder.n_heads")
    channels = size(config, "perception.encoder.subsampling_conv_channels")
    kernel = size(config, "perception.encoder.conv_kernel_size")
    factor = size(config, "perception.encoder.subsampling_factor")
    n_mels = size(config, "perception.encoder.feat_in")
    ff = d * size(config, "perception.encoder.ff_expansion_factor")
    shapes: Shapes = {}

    def linear(name: str, out: int, *inner: int) -> None:
        shapes[f"{ENCODER_PREFIX}{name}.weight"] = (out, *inner)
        shapes[f"{ENCODER_PREFIX}{name}.bias"] = (out,)

    linear("pre_encode.conv.0", channels, 1, 3, 3)
    for step in range(factor.bit_length() - 2):  # one stride-2 stage is the plain convolution above
        linear(f"pre_encode.conv.{2 + 3 * step}", channels, 1, 3, 3)
        linear(f"pre_encode.conv.{3 + 3 * step}", channels, channels, 1, 1)
    linear("pre_encode.out", d, channels * (n_mels // factor))
    for i in range(size(config, "perception.encoder.n_layers", most=MAX_LAYERS)):
        layer = f"layers.{i}."
        for norm in ("norm_feed_forward1", "norm_self_att", "norm_conv", "norm_feed_forward2", "norm_out"):
            linear(layer + norm, d)
        for name in ("feed_forward1", "feed_forward2"):
            linear(f"{layer}{name}.linear1", ff, d)
            linear(f"{layer}{name}.linear2", d, ff)
        for name in ("q", "k", "v", "out"):
            linear(f"{layer}self_attn.linear_{name}", d, d)
        shapes[f"{ENCODER_PREFIX}{layer}self_attn.linear_pos.weight"] = (d, d)
        for name in ("u", "v"):
            shapes[f"{ENCODER_PREFIX}{layer}self_attn.pos_bias_{name}"] = (heads, d // heads)
        linear(layer + "conv.pointwise_conv1", 2 * d, d, 1)
        linear(layer + "conv.depthwise_conv", d, 1, kernel)
        linear(layer + "conv.pointwise_conv2", d, d, 1)
        linear(layer + "conv.batch_norm", d)
        for name, shape in (("running_mean", (d,)), ("running_var", (d,)), ("num_batches_tracked", ())):
            shapes[f"{ENCODER_PREFIX}{layer}conv.batch_norm.{name}"] = shape
    return shapes


def llm_shapes(config: Mapping[str, Any], llm: Mapping[str, Any]) -> Shapes:
    """Every tensor under `llm.`, with its shape: Qwen3 without embeddings and head, plus LoRA.

    Args:
        config: the checkpoint's config.json (its LoRA section).
        llm: the base LLM's config.json.
    """
    hidden = size(llm, "hidden_size", "base LLM config")
    inner = size(llm, "intermediate_size", "base LLM config")
    heads = size(llm, "num_attention_heads", "base LLM config")
    head_dim = size(llm, "head_dim", "base LLM config") if llm.get("head_dim") else hidden // heads
    queries = heads * head_dim
    values = size(llm, "num_key_value_heads", "base LLM config") * head_dim
    targets = lora_targets(config)
    rank = size(config, "lora.r") if targets else 0
    linears = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (values, hidden),
        "self_attn.v_proj": (values, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    shapes: Shapes = {LLM_PREFIX + "model.norm.weight": (hidden,)}
    for i in range(size(llm, "num_hidden_layers", "base LLM config", MAX_LAYERS)):
        layer = f"model.layers.{i}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{LLM_PREFIX}{layer}{norm}.weight"] = (hidden,)
        for norm in ("q_norm", "k_norm"):
            shapes[f"{LLM_PREFIX}{layer}self_attn.{norm}.weight"] = (head_dim,)
        for name, (out, into) in linears.items():
            wrapped = name.rsplit(".", 1)[1] in targets
            shapes[llm_name(f"{layer}{name}.weight", lora=wrapped)] = (out, into)
            if wrapped:
                a, b = lora_names(layer + name)
                shapes[a], shapes[b] = (rank, into), (out, rank)
    return shapes


def checkpoint_shapes(config: Mapping[str, Any], llm: Mapping[str, Any]) -> Shapes:
    """Every tensor of a whole checkpoint, with its shape (the embeddings included).

    The preprocessor's buffers follow its config: (1, n_mels, n_fft // 2 + 1) and the window in
    samples.
    """
    pre = get(config, "perception.preprocessor")
    rate = size(pre, "sample_rate")
    hidden, d = size(config, "perception.output_dim"), size(config, "perception.encoder.d_model")
    return {
        EMBEDDINGS: (size(llm, "vocab_size", "base LLM config"), hidden),
        FILTERBANK: (1, size(pre, "features"), size(pre, "n_fft") // 2 + 1),
        WINDOW: (round(number(pre, "window_size") * rate),),
        PROJECTION + ".weight": (hidden, d),
        PROJECTION + ".bias": (hidden,),
        **encoder_shapes(config),
        **llm_shapes(config, llm),
    }

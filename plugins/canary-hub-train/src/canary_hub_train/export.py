"""The trained nano as a checkpoint in the published layout: bf16, names as nvidia/canary-qwen-2.5b."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from canary_hub.atomic import beside, write_text
from canary_hub.errors import WeightsError
from canary_hub.models.canary_qwen import layout

from .features import N_MELS
from .model import Nano, Sizes
from .tokenizer import PLACEHOLDER, Coder, take_tokenizer

PEFT_PREFIX = "base_model.model."


def checkpoint_config(sizes: Sizes) -> dict[str, Any]:
    """config.json as NeMo's SALM writes it."""
    return {
        "audio_locator_tag": PLACEHOLDER,
        "freeze_params": ["^llm\\..+$", "^embed_tokens\\..+$"],
        "lora": {
            "lora_alpha": sizes.lora_alpha,
            "lora_dropout": 0.01,
            "r": sizes.lora_r,
            "target_modules": ["q_proj", "v_proj"],
            "task_type": "CAUSAL_LM",
        },
        "optimizer": {
            "_target_": "torch.optim.AdamW",
            "betas": [0.9, 0.98],
            "lr": 0.001,
            "weight_decay": 0.01,
        },
        "perception": {
            "encoder": {
                "_target_": "nemo.collections.asr.modules.ConformerEncoder",
                "att_context_size": [-1, -1],
                "causal_downsampling": False,
                "conv_context_size": None,
                "conv_kernel_size": sizes.kernel,
                "conv_norm_type": "batch_norm",
                "d_model": sizes.d_model,
                "dropout": 0.0,
                "dropout_att": 0.0,
                "dropout_emb": 0.0,
                "dropout_pre_encoder": 0.0,
                "feat_in": N_MELS,
                "feat_out": -1,
                "ff_expansion_factor": 4,
                "n_heads": sizes.heads,
                "n_layers": sizes.layers,
                "pos_emb_max_len": 5000,
                "reduction": None,
                "reduction_factor": 1,
                "reduction_position": None,
                "self_attention_model": "rel_pos",
                "subsampling": "dw_striding",
                "subsampling_conv_channels": sizes.channels,
                "subsampling_factor": 8,
                "untie_biases": True,
                "xscaling": False,
            },
            "modality_adapter": {
                "_target_": "nemo.collections.speechlm2.modules.perception.IdentityConnector",
                "d_model": sizes.d_model,
            },
            "output_dim": sizes.hidden,
            "preprocessor": {
                "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
                "dither": 1e-05,
                "features": N_MELS,
                "frame_splicing": 1,
                "log": True,
                "n_fft": 512,
                "normalize": "per_feature",
                "pad_to": 0,
                "pad_value": 0.0,
                "sample_rate": 16000,
                "window": "hann",
                "window_size": 0.025,
                "window_stride": 0.01,
            },
            "target": "nemo.collections.speechlm2.modules.perception.AudioPerceptionModule",
        },
        "pretrained_asr": "nano",
        "pretrained_llm": "nano",
        "pretrained_weights": False,
        "prevent_freeze_params": ["^.+\\.lora_.+$"],
        "prompt_format": "qwen",
        "torch_dtype": "bfloat16",
    }


def _names(model: Nano) -> dict[str, tuple[str, str]]:
    """Checkpoint name -> (part of the model, name in its state dict)."""
    names = {layout.encoder_name(name): ("encoder", name) for name in model.encoder.state_dict()}
    for name in model.proj.state_dict():
        names[f"{layout.PROJECTION}.{name}"] = ("proj", name)
    for name in model.llm.state_dict():
        plain = name.removeprefix(PEFT_PREFIX)
        if plain.startswith("lm_head"):
            continue  # tied to the embeddings
        if ".lora_" in plain:
            names[layout.LLM_PREFIX + plain] = ("llm", name)
        else:
            lora = ".base_layer." in plain
            names[layout.llm_name(plain.replace(".base_layer.", "."), lora)] = ("llm", name)
    return names


def checkpoint_tensors(model: Nano) -> dict[str, torch.Tensor]:
    """Every tensor of the checkpoint: bf16, and int64 for the batch norms' counters.

    Raises: WeightsError when they are not exactly those of the layout.
    """
    states = {part: getattr(model, part).state_dict() for part in ("encoder", "proj", "llm")}
    tensors = {ours: states[part][name] for ours, (part, name) in _names(model).items()}
    tensors[layout.FILTERBANK] = model.mel.mel_filters[None]
    tensors[layout.WINDOW] = model.mel.window
    expected = layout.checkpoint_shapes(checkpoint_config(model.sizes), model.sizes.llm_config())
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = sorted({name for name, _ in set(expected.items()) ^ set(found.items())})
    if wrong:
        raise WeightsError(f"The trained model is not in the published layout: {', '.join(wrong[:5])}.")
    return {
        name: (tensor if tensor.dtype == torch.int64 else tensor.to(torch.bfloat16)).cpu().contiguous().clone()
        for name, tensor in tensors.items()
    }


def export(model: Nano, tokenizer: Path, out: Path) -> Path:
    """Writes config.json, model.safetensors and llm/ to `out`; returns it."""
    _write_json(out / "config.json", checkpoint_config(model.sizes))
    _write_json(out / "llm" / "config.json", model.sizes.llm_config(model.coder))
    take_tokenizer(tokenizer, out / "llm")
    with beside(out / "model.safetensors") as part:  # last: a folder that has it has everything
        save_file(checkpoint_tensors(model), part, metadata={"format": "pt"})
    return out


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")


def load_exported(folder: Path) -> Nano:
    """A nano from its exported files: what a user gets, computed in float32.

    Raises: WeightsError when a file or a tensor is missing.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        llm = json.loads((folder / "llm" / "config.json").read_text())
        tensors = load_file(folder / "model.safetensors")
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder} is not an exported nano: {error}.") from error
    encoder = layout.get(config, "perception.encoder")
    sizes = Sizes(
        d_model=encoder["d_model"],
        layers=encoder["n_layers"],
        heads=encoder["n_heads"],
        kernel=encoder["conv_kernel_size"],
        channels=encoder["subsampling_conv_channels"],
        hidden=llm["hidden_size"],
        llm_layers=llm["num_hidden_layers"],
        llm_heads=llm["num_attention_heads"],
        llm_kv_heads=llm["num_key_value_heads"],
        llm_inner=llm["intermediate_size"],
        vocabulary=llm["vocab_size"],
        lora_r=config["lora"]["r"],
        lora_alpha=config["lora"]["lora_alpha"],
    )
    model = Nano(sizes, Coder(folder / "llm"))
    missing = sorted(set(_names(model)) - set(tensors))
    if missing:
        raise WeightsError(f"{folder} lacks {len(missing)} tensors: {', '.join(missing[:5])}.")
    for part in ("encoder", "proj", "llm"):
        module = getattr(model, part)
        state = module.state_dict()
        state |= {name: tensors[ours] for ours, (owner, name) in _names(model).items() if owner == part}
        if part == "llm":  # the head is tied: both names hold the same tensor
            state[PEFT_PREFIX + "lm_head.weight"] = tensors[layout.EMBEDDINGS]
        module.load_state_dict(state)
    model.mel.mel_filters = tensors[layout.FILTERBANK][0].float()
    model.mel.window = tensors[layout.WINDOW].float()
    return model.eval()

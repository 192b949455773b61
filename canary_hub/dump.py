"""The tensors of one run, for parity with another implementation (NeMo's SALM).

Everything runs in float32 on the CPU, greedy, without the pipeline's segmentation and loop guard.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .atomic import beside
from .audio.decode import load_audio
from .errors import HubError
from .hub import Hub
from .run.injection import inject
from .specs import Stage


def dump(
    hub: Hub,
    checkpoint: str | Path,
    base_llm: str | Path,
    audio: Sequence[str | Path],
    prompts: Sequence[str] = (),
    adapter: bool = True,
    max_new_tokens: int = 24,
    components: dict[Stage, str] | None = None,
) -> dict[str, Any]:
    """Run a checkpoint in the Canary-Qwen layout and return its tensors by name.

    Args:
        checkpoint, base_llm: folders with config.json + model.safetensors, and config.json + tokenizer.
        audio: files that fill the placeholders of all prompts in order.
        prompts: one batch row each, with the placeholder written out; the model card's by default.
        adapter: LoRA on or off. Without audio the prompts are text only (LLM mode).

    Returns: mel (A, n_mels, T), mel_len, enc (A, d_model, N), enc_len, perception (A, N, H) over the A
        audio files; prompt_ids (B, L') left-padded with the pad id, inputs_embeds (B, L, H),
        attention_mask (B, L), first_logits (B, V), generated_ids (B, new tokens; pad after a row's end).

    Raises: HubError when placeholders and audio files differ in number; WeightsError, AudioError.
    """
    import torch

    stack = hub.load(
        "canary-qwen-2.5b",
        components=components,
        weights={"canary": checkpoint, "canary-llm": base_llm},
        options={"llm.max_new_tokens": max_new_tokens, "llm.adapter": adapter},
        dtype="float32",
        device="cpu",
    )
    llm = stack.component(Stage.LLM)
    tokenizer = llm.tokenizer
    if not prompts:
        prompts = [f"Transcribe the following: {tokenizer.placeholder}"] * len(audio)
    if not prompts:
        raise HubError("There is neither a prompt nor an audio file.", "Give --prompt, audio files, or both.")
    rows = [tokenizer.encode(_user_message(tokenizer, prompt)) for prompt in prompts]
    tensors: dict[str, torch.Tensor] = {}
    clips: list[torch.Tensor] = []
    if audio:
        waves = [torch.from_numpy(load_audio(path, stack.rate).samples) for path in audio]
        wav = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
        mel, mel_len = stack.component(Stage.PREPROCESSOR)(wav, torch.tensor([len(wave) for wave in waves]))
        enc, enc_len = stack.component(Stage.ENCODER)(mel, mel_len)
        perception, lengths = stack.component(Stage.PROJECTOR)(enc, enc_len)
        clips = [row[:n] for row, n in zip(perception, lengths.tolist(), strict=True)]
        tensors |= {"mel": mel, "mel_len": mel_len, "enc": enc.transpose(1, 2), "enc_len": enc_len}
        tensors["perception"] = perception
    injected = inject(rows, llm.embed, clips, llm.placeholder_id)
    steps = list(llm.generate(injected.inputs_embeds, injected.attention_mask, stack.options[Stage.LLM]))
    pad = tokenizer.pad_id
    tensors |= {
        "prompt_ids": torch.tensor([[pad] * (max(map(len, rows)) - len(row)) + row for row in rows]),
        "inputs_embeds": injected.inputs_embeds,
        "attention_mask": injected.attention_mask.long(),
        "first_logits": steps[0].logits,
        "generated_ids": torch.tensor([[pad if i is None else i for i in step.ids] for step in steps]).T,
    }
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}


def _user_message(tokenizer: Any, prompt: str) -> list[Any]:
    from .models.canary_qwen.prompts import user_message

    return user_message(tokenizer.split_control(prompt))


def write(tensors: dict[str, Any], path: str | Path) -> None:
    """Write the tensors as one safetensors file. Raises: HubError when the file cannot be written."""
    from safetensors.torch import save_file

    try:
        with beside(Path(path)) as part:
            save_file(tensors, str(part))
    except OSError as error:
        raise HubError(f"{str(path)!r} cannot be written: {error}.", "Choose another --out.") from error

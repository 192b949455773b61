"""`canary-hub dump`: the tensors of one run, for parity with another implementation (NeMo's SALM)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..atomic import beside
from ..audio.decode import load_audio
from ..errors import HubError
from ..specs import Stage
from .choices import hub_of, plugin_choice, plugin_options

if TYPE_CHECKING:
    import torch

    from ..hub import Hub

_FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("audio", nargs=-1)
@click.option("--checkpoint", type=_FOLDER, required=True, help="Folder with config.json and model.safetensors.")
@click.option("--base-llm", type=_FOLDER, required=True, help="Folder with the LLM's config.json and tokenizer.")
@click.option("--prompt", "prompts", multiple=True, help="One batch row each, the placeholder written out.")
@click.option("--adapter", type=click.Choice(["on", "off"]), default="on", show_default=True, help="LoRA.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=24, show_default=True)
@click.option("--llm", metavar="ID", help="Another LLM backend, such as canary/qwen3-peft.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Safetensors file.")
@plugin_options
@click.pass_context
def dump(ctx: click.Context, /, out: Path, adapter: str, llm: str | None, **given: Any) -> None:
    """Run a checkpoint in float32 on the CPU and write its tensors.

    Writes mel, mel_len, enc, enc_len, perception, prompt_ids, inputs_embeds, attention_mask,
    first_logits and generated_ids. AUDIO files fill the placeholders of the prompts in order; without
    audio, prompts are text only (LLM mode with --adapter off).
    """
    hub = hub_of(ctx, **plugin_choice(given))
    tensors = run_tensors(hub, adapter=adapter == "on", components={Stage.LLM: llm} if llm else None, **given)
    _write(tensors, out)
    for name, tensor in tensors.items():
        click.echo(f"{name:16} {str(tensor.dtype).removeprefix('torch.'):8} {tuple(tensor.shape)}")


def run_tensors(
    hub: Hub,
    checkpoint: Path,
    base_llm: Path,
    audio: Sequence[str],
    prompts: Sequence[str],
    adapter: bool,
    max_new_tokens: int,
    components: dict[Stage, str] | None,
) -> dict[str, torch.Tensor]:
    """Run a checkpoint in the Canary-Qwen layout, greedily and without the pipeline's pauses and loop guard.

    Args:
        checkpoint, base_llm: folders with config.json + model.safetensors, and config.json + tokenizer.
        audio: files that fill the placeholders of all prompts in order.
        prompts: one batch row each, with the placeholder written out; the model card's where there is none.
        adapter: LoRA on or off. Without audio the prompts are text only (LLM mode).

    Returns: by name mel (A, n_mels, T), mel_len, enc (A, d_model, N), enc_len, perception (A, N, H) over the A
        audio files; prompt_ids (B, L') left-padded with the pad id, inputs_embeds (B, L, H),
        attention_mask (B, L), first_logits (B, V), generated_ids (B, new tokens; pad after a row's end).

    Raises: HubError when placeholders and audio files differ in number; WeightsError, AudioError.
    """
    import torch

    from ..models.canary_qwen.prompts import user_message
    from ..run.injection import inject

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
    prompts = prompts or [f"Transcribe the following: {tokenizer.placeholder}"] * len(audio)
    if not prompts:
        raise HubError("There is neither a prompt nor an audio file.", "Give --prompt, audio files, or both.")
    rows = [tokenizer.encode(user_message(tokenizer.split_control(prompt))) for prompt in prompts]
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


def _write(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """All of them as one safetensors file. Raises: HubError when it cannot be written."""
    from safetensors.torch import save_file

    try:
        with beside(path) as part:
            save_file(tensors, str(part))
    except OSError as error:
        raise HubError(f"{str(path)!r} cannot be written: {error}.", "Choose another --out.") from error

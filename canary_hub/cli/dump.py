"""`canary-hub dump`: the tensors of one run, for parity with another implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..specs import Stage
from .choices import hub_of, plugin_choice, plugin_options

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
    from .. import dump as module

    hub = hub_of(ctx, **plugin_choice(given))
    tensors = module.dump(hub, adapter=adapter == "on", components={Stage.LLM: llm} if llm else None, **given)
    module.write(tensors, out)
    for name, tensor in tensors.items():
        click.echo(f"{name:16} {str(tensor.dtype).removeprefix('torch.'):8} {tuple(tensor.shape)}")

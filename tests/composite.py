"""A composite speech-LLM of transformers against the stack that takes it apart: same logits, same greedy ids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from canary_hub.pipeline import Stack
from canary_hub.run.injection import inject
from canary_hub.specs import Stage

RATE = 16000
VOCAB = 320
"""Rows of the tiny models' embedding tables: 256 bytes, then control tokens, then nothing."""


def tokenizer(folder: Path, control: Sequence[str], eos: Sequence[str], **named: str) -> PreTrainedTokenizerFast:
    """Write tokenizer.json, tokenizer_config.json and generation_config.json of a tokenizer that knows single
    bytes and control tokens; returns it as the family's processor wants it.

    named: tokens that the processor asks the tokenizer for, such as audio_token="<|AUDIO|>".
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bare = Tokenizer(models.BPE({piece: i for i, piece in enumerate(alphabet)}, []))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    bare.add_special_tokens(list(control))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bare, eos_token=eos[0], pad_token=eos[-1], extra_special_tokens=named, padding_side="left"
    )
    fast.save_pretrained(folder)
    ids = [bare.token_to_id(token) for token in eos]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids, "pad_token_id": ids[-1]}))
    return fast


def sound(seconds: float, seed: int = 0) -> torch.Tensor:
    """(S,) float32: a gliding tone that comes and goes, in noise."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(round(seconds * RATE)) / RATE
    pitch = 200 + 150 * torch.sin(2 * torch.pi * (0.3 + 0.1 * seed) * t)
    tone = torch.sin(2 * torch.pi * torch.cumsum(pitch, 0) / RATE) * (torch.sin(2 * torch.pi * 1.5 * t) > -0.5)
    return 0.3 * tone + 0.02 * torch.randn(len(t), generator=generator)


def left_padded(rows: Sequence[torch.Tensor], pad_id: int = 0) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask (B, L) of rows of ids."""
    flipped = [row.flip(0) for row in rows]
    ids = pad_sequence(flipped, batch_first=True, padding_value=pad_id).flip(1)
    mask = pad_sequence([torch.ones_like(row) for row in flipped], batch_first=True).flip(1)
    return {"input_ids": ids, "attention_mask": mask}


@dataclass
class Heard:
    """What the five stages made of a batch."""

    embeds: torch.Tensor
    mask: torch.Tensor
    logits: torch.Tensor
    frames: list[int]


@torch.inference_mode()
def hear(stack: Stack, clips: Sequence[torch.Tensor], **options: Any) -> Heard:
    """The clips through the stages one after the other, as the pipeline runs them; logits (B, L, V) of all
    positions of the prompt."""
    x, lengths = pad_sequence(list(clips), batch_first=True), torch.tensor([len(clip) for clip in clips])
    for stage in (Stage.PREPROCESSOR, Stage.ENCODER, Stage.PROJECTOR):
        x, lengths = stack.component(stage)(x, lengths)
    llm = stack.component(Stage.LLM)
    called = stack.call_options(**options)
    prompt = llm.tokenize(stack.component(Stage.PROMPT_TEMPLATE).render(called[Stage.PROMPT_TEMPLATE]))
    audio = [row[:n] for row, n in zip(x, lengths, strict=True)]
    injected = inject([prompt] * len(clips), llm.embed, audio, llm.placeholder_id)
    mask = injected.attention_mask
    hidden = llm.model.model(
        inputs_embeds=injected.inputs_embeds,
        attention_mask=mask,
        position_ids=(mask.long().cumsum(-1) - 1).clamp(min=0),
        use_cache=False,
    ).last_hidden_state
    return Heard(injected.inputs_embeds, mask, llm.model.lm_head(hidden), lengths.tolist())


@torch.inference_mode()
def assert_same(
    stack: Stack,
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    clips: Sequence[torch.Tensor],
    tokens: int = 6,
    scale: float = 1.0,
    **options: Any,
) -> Heard:
    """The stack's logits equal the model's own forward on `inputs`, and its greedy ids those of `generate`.

    scale: what the model's own logits are to be divided by.
    """
    heard = hear(stack, clips, **options)
    mask = inputs["attention_mask"].bool()
    # `generate` numbers the positions from the first token; a bare forward would count the padding, too.
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    expected = model(**inputs, position_ids=positions).logits / scale
    assert heard.mask.tolist() == mask.tolist()
    assert expected[mask].std() > 0.1, "too flat to tell anything"
    difference = (heard.logits - expected)[mask].abs().max().item()
    assert difference < 1e-5, difference
    llm = stack.component(Stage.LLM)
    settings = stack.call_options(max_new_tokens=tokens)[Stage.LLM]
    steps = list(llm.generate(heard.embeds, heard.mask, settings))
    # Both stop at the same ids and go on with the same padding.
    end = {"eos_token_id": list(llm.eos_ids), "pad_token_id": llm.tokenizer.pad_id}
    whole = model.generate(**inputs, max_new_tokens=tokens, do_sample=False, **end)
    written = whole[:, inputs["input_ids"].shape[1] :].tolist()
    for row, ids in enumerate(written):
        ours = [step.ids[row] for step in steps if step.ids[row] is not None]
        assert ours == ids[: len(ours)]
        assert all(id == llm.tokenizer.pad_id for id in ids[len(ours) :])
    for step in steps[:1]:
        torch.testing.assert_close(step.logits, heard.logits[:, -1], atol=1e-5, rtol=0)
    return heard


def assert_independent_of_its_batch(stack: Stack, clips: Sequence[torch.Tensor], **options: Any) -> None:
    """Every clip's logits are the same alone and in the batch, whose shorter rows are padded."""
    together = hear(stack, clips, **options)
    for row, clip in enumerate(clips):
        alone = hear(stack, [clip], **options)
        assert together.frames[row] == alone.frames[0]
        torch.testing.assert_close(together.logits[row, together.mask[row]], alone.logits[0], atol=1e-5, rtol=0)

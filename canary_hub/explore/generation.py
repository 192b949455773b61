"""Exploration `generation`: how the answer is written, token by token, and what ends it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import HubError
from ..options import build_and_call
from ..run.checks import MIN_REPEATS, MIN_TOKENS, loop_start
from ..run.injection import Injected, inject
from ..run.observe import Observed, observe
from ..specs import Options, StackSpec, Stage
from .exploration import Exploration
from .prompt import Prompt, prompt_of_stack, prompt_without_weights
from .subject import Subject, embedded, first_window

if TYPE_CHECKING:
    from ..hub import Hub
    from ..pipeline import Stack

TEMPERATURES = (0.7, 1.5)
SEEDS = (0, 1)
ALTERNATIVES = 3
SPARE = 16
"""A drawn or adapter-free answer may be so many tokens longer than the greedy one."""
BOTH_WAYS_TOKENS = 8


@dataclass(frozen=True)
class Alternative:
    """A token that could have been written instead."""

    piece: str
    probability: float


@dataclass(frozen=True)
class Written:
    """One token of the greedy answer. ms: until it was there, the first after the whole prompt was read.
    entropy: of the whole distribution, in bits."""

    id: int
    piece: str
    probability: float
    entropy: float
    ms: float
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True)
class Run:
    """One answer to the same clip.

    changed: the options that differ from the stack's own. ended: "end token", "limit" or "repetition".
    as_greedy: how many tokens at its beginning are those of the greedy answer.
    ms_per_token: median after the first token; None with fewer than two.
    """

    title: str
    changed: dict[str, float | int | bool]
    text: str
    tokens: int
    ended: str
    as_greedy: int
    ms_per_token: float | None


@dataclass(frozen=True)
class TwoWays:
    """`transformers`' own generate on the prompt without audio, given as ids and as their embeddings.

    from_ids, from_embeds: how many ids each returned. same: whether the new tokens are equal.
    """

    prompt_tokens: int
    from_ids: int
    from_embeds: int
    same: bool


@dataclass(frozen=True)
class Generation(Exploration):
    """How the answer is written. Without weights `written`, `runs` and `two_ways` are empty.

    settings: the LLM backend's call options. prompt_tokens: None without a tokenizer.
    bytes_per_token: all of the LLM's weights, which every step reads once; None without its configuration.
    """

    exploration: ClassVar[str] = "generation"

    settings: dict[str, Any]
    eos_ids: tuple[int, ...]
    pad_id: int | None
    prompt_tokens: int | None
    repeats: int
    repeated_tokens: int
    bytes_per_token: int | None
    two_ways: TwoWays | None
    clip: str
    positions: int | None
    written: tuple[Written, ...]
    runs: tuple[Run, ...]


def explore(
    hub: Hub,
    stack: str | StackSpec,
    *,
    audio: Any | None = None,
    dtype: str | None = None,
    device: str | None = None,
) -> Generation:
    """Write the answer to a clip greedily, then with other limits, drawn, and with the adapter off.

    Raises: AudioError; HubError when neither weights nor a configuration in the published layout are here.
    """
    subject = Subject(hub, stack, dtype, device)
    if not subject.missing:
        with subject.load() as loaded:
            return _with_weights(subject, loaded, audio)
    if not subject.in_published_layout:
        raise HubError(f"Stack {subject.spec.name} needs its weights to be explored.", f"{subject.missing}.")
    _, options = build_and_call(subject.llm, subject.spec.options.get(Stage.LLM, {}))
    limits = (f"Tokens, probabilities and times need the weights. {subject.missing}.",)
    return _result(subject, prompt_without_weights(subject), options, limits)


def _with_weights(subject: Subject, stack: Stack, audio: Any | None) -> Generation:
    wave, limits = first_window(subject.spec, stack.rate, audio)
    llm = stack.component(Stage.LLM)
    prompt = prompt_of_stack(stack)
    ids = prompt.ids
    assert ids is not None
    injected = inject([ids], llm.embed, embedded(stack, [wave])[:1], llm.placeholder_id)
    two_ways = _two_ways(llm, prompt)
    if two_ways is None:
        limits = (*limits, f"{subject.llm.id} holds no transformers model: the two ways to call it are not shown.")
    greedy, written, runs = _runs(stack, injected)
    return _result(
        subject,
        prompt,
        stack.options[Stage.LLM],
        limits,
        two_ways,
        wave.name,
        injected,
        tuple(written),
        (greedy, *runs),
    )


def _result(
    subject: Subject,
    prompt: Prompt,
    options: Options,
    limits: tuple[str, ...],
    two_ways: TwoWays | None = None,
    clip: str = "",
    injected: Injected | None = None,
    written: tuple[Written, ...] = (),
    runs: tuple[Run, ...] = (),
) -> Generation:
    return Generation(
        stack=subject.spec.name,
        limits=limits,
        settings=options.model_dump(),
        eos_ids=prompt.eos_ids,
        pad_id=prompt.pad_id,
        prompt_tokens=None if prompt.ids is None else len(prompt.ids),
        repeats=MIN_REPEATS,
        repeated_tokens=MIN_TOKENS,
        bytes_per_token=_bytes_per_token(subject),
        two_ways=two_ways,
        clip=clip,
        positions=None if injected is None else int(injected.attention_mask.sum()),
        written=written,
        runs=runs,
    )


def _bytes_per_token(subject: Subject) -> int | None:
    import torch

    from .structure import empty_llm

    try:
        model = empty_llm(subject.llm_config)
    except HubError:  # a backend without a transformers config
        return None
    itemsize: int = getattr(torch, subject.dtype).itemsize
    return itemsize * sum(int(p.numel()) for p in model.parameters())


def _runs(stack: Stack, injected: Injected) -> tuple[Run, list[Written], list[Run]]:
    """The greedy answer and its tokens, and the others that the backend's options allow."""
    known = stack.specs[Stage.LLM].call_options.model_fields
    plain = {name: value for name, value in (("temperature", 0.0), ("adapter", True)) if name in known}
    greedy, ids, written = _run(stack, injected, "greedy", plain, None)
    others: list[tuple[str, dict[str, Any]]] = []
    if "max_new_tokens" in known:
        limits = sorted({1, max(1, len(ids) // 2)} - {len(ids)})
        others += [(f"at most {n} token{'s' * (n > 1)}", {"max_new_tokens": n}) for n in limits]
    longest = {}
    if "max_new_tokens" in known:
        longest = {"max_new_tokens": min(len(ids) + SPARE, stack.options[Stage.LLM].model_dump()["max_new_tokens"])}
    if {"temperature", "seed"} <= known.keys():
        others += [
            (f"drawn, temperature {t:g}, seed {seed}", {"temperature": t, "seed": seed, **longest})
            for t in TEMPERATURES
            for seed in SEEDS
        ]
    if "adapter" in known:
        others.append(("adapter off", {"adapter": False, **longest}))
    runs = [_run(stack, injected, title, {**plain, **changed}, ids, changed)[0] for title, changed in others]
    return greedy, written, runs


def _run(
    stack: Stack,
    injected: Injected,
    title: str,
    options: Mapping[str, Any],
    greedy: list[int] | None,
    changed: Mapping[str, Any] | None = None,
) -> tuple[Run, list[int], list[Written]]:
    """One answer: the run, its ids, and each token with its probability and time."""
    llm = stack.component(Stage.LLM)
    call = stack.call_options(**options)[Stage.LLM]
    # No attention is asked for here: the columns of the audio stay empty.
    choices = Observed(slice(0, 0))
    ids: list[int] = []
    times: list[float] = []
    looped = False

    def stop(row: int, so_far: Any) -> bool:
        nonlocal looped
        looped = loop_start(so_far) is not None
        return looped

    started = time.perf_counter()
    for step in llm.generate(injected.inputs_embeds, injected.attention_mask, call, stop):
        times.append(1000 * (time.perf_counter() - started))
        observe(step, [choices])
        if step.ids[0] is not None:
            ids.append(step.ids[0])
        started = time.perf_counter()
    ended = "repetition" if looped else "end token" if ids and ids[-1] in llm.eos_ids else "limit"
    pairs = enumerate(zip(ids, greedy if greedy is not None else ids, strict=False))
    same = next((i for i, (ours, theirs) in pairs if ours != theirs), min(len(ids), len(greedy or ids)))
    run = Run(
        title=title,
        changed=dict(changed or {}),
        text=llm.decode(ids).strip(),
        tokens=len(ids),
        ended=ended,
        as_greedy=same,
        ms_per_token=statistics.median(times[1:]) if len(times) > 1 else None,
    )
    return run, ids, _written(llm, ids, choices, times)


def _written(llm: Any, ids: list[int], choices: Observed, times: list[float]) -> list[Written]:
    def piece(id: int) -> str:
        text: str = llm.pieces([id])[0] if hasattr(llm, "pieces") else llm.decode([id])
        return text

    return [
        Written(id, piece(id), probability, entropy, ms,
                tuple(Alternative(piece(other), p) for other, p in others[:ALTERNATIVES]))
        for id, probability, entropy, others, ms in zip(
            ids, choices.probability, choices.entropy, choices.others, times, strict=True
        )
    ]  # fmt: skip


def _two_ways(llm: Any, prompt: Prompt) -> TwoWays | None:
    """transformers' generate with ids and with embeddings; None where the backend holds no such model."""
    import torch

    from ..models.cpu import forward_pass

    model: Any = getattr(llm, "model", None)
    if not hasattr(model, "generate") or prompt.pad_id is None:
        return None
    # Ids cannot carry audio, so both ways get the prompt without its placeholder.
    ids = torch.tensor([[piece.id for piece in prompt.pieces if not piece.slot]], device=model.device)
    given = {
        "attention_mask": torch.ones_like(ids),
        "max_new_tokens": BOTH_WAYS_TOKENS,
        "do_sample": False,
        "eos_token_id": list(prompt.eos_ids),
        "pad_token_id": prompt.pad_id,
    }
    with forward_pass():
        from_ids = model.generate(input_ids=ids, **given)[0].tolist()
        from_embeds = model.generate(inputs_embeds=llm.embed(ids), **given)[0].tolist()
    return TwoWays(ids.shape[1], len(from_ids), len(from_embeds), from_ids[ids.shape[1] :] == from_embeds)

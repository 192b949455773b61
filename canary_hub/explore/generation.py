"""Exploration `generation`: how the answer is written, token by token, and what ends it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import HubError
from ..run.checks import MIN_REPEATS, MIN_TOKENS, loop_start
from ..run.events import Done, StageDone, Token
from ..run.result import SegmentTrace, TokenTrace
from ..run.reuse import StageCache
from ..specs import Options, StackSpec, Stage
from .exploration import Exploration
from .layout import empty_llm
from .prompt import Prompt, prompt_of_stack, prompt_without_weights
from .subject import Subject, first_window

if TYPE_CHECKING:
    from ..audio.waveform import Waveform
    from ..hub import Hub
    from ..pipeline import Stack

TEMPERATURES = (0.7, 1.5)
SEEDS = (0, 1)
SPARE = 16
"""A drawn or adapter-free answer may be so many tokens longer than the greedy one."""
BOTH_WAYS_TOKENS = 8


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
    """How the answer is written. Without weights `written`, `ms`, `runs` and `two_ways` are empty.

    settings: the LLM backend's call options. prompt_tokens: None without a tokenizer.
    bytes_per_token: all of the LLM's weights, which every step reads once; None without its configuration.
    positions: of the prompt with the audio in it.
    written: the tokens of the greedy answer. ms: until each was there, the first after the whole prompt was read.
    """

    exploration: ClassVar[str] = "generation"

    settings: dict[str, Any]
    eos_ids: tuple[int, ...]
    pad_id: int | None
    prompt_tokens: int | None
    repeats: int
    repeated_tokens: int
    bytes_per_token: int | None
    two_ways: TwoWays | None = None
    clip: str = ""
    positions: int | None = None
    written: tuple[TokenTrace, ...] = ()
    ms: tuple[float, ...] = ()
    runs: tuple[Run, ...] = ()


def explore(
    hub: Hub,
    stack: str | StackSpec,
    *,
    audio: Any | None = None,
    dtype: str | None = None,
    device: str | None = None,
) -> Generation:
    """Write the answer to a clip greedily, then with other limits, drawn, and with the adapter off.

    Raises: AudioError; HubError for a clip that nothing is decoded of, or when neither weights nor a configuration in
        the published layout are here.
    """
    subject = Subject(hub, stack, dtype, device)
    if not subject.missing:
        with subject.load() as loaded:
            return _with_weights(subject, loaded, audio)
    if not subject.in_published_layout:
        raise HubError(f"Stack {subject.spec.name} needs its weights to be explored.", f"{subject.missing}.")
    _, options = subject.resolved(Stage.LLM)
    limits = (f"Tokens, probabilities and times need the weights. {subject.missing}.",)
    return _result(subject, prompt_without_weights(subject), options, limits)


def _with_weights(subject: Subject, stack: Stack, audio: Any | None) -> Generation:
    wave, limits = first_window(subject.spec, stack.rate, audio)
    llm = stack.component(Stage.LLM)
    prompt = prompt_of_stack(stack)
    two_ways = _two_ways(llm, prompt)
    if two_ways is None:
        limits = (*limits, f"{subject.llm.id} holds no transformers model: the two ways to call it are not shown.")
    greedy, *others = _answers(stack, wave)
    runs = tuple(answer.compared(greedy.ids, llm.eos_ids) for answer in (greedy, *others))
    return _result(
        subject,
        prompt,
        stack.options[Stage.LLM],
        limits,
        two_ways=two_ways,
        clip=wave.name,
        positions=len(greedy.trace.prompt) - 1 + len(greedy.trace.frames),
        written=greedy.trace.tokens,
        ms=tuple(greedy.ms[: len(greedy.trace.tokens)]),
        runs=runs,
    )


def _result(
    subject: Subject, prompt: Prompt, options: Options, limits: tuple[str, ...], **with_weights: Any
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
        **with_weights,
    )


def _bytes_per_token(subject: Subject) -> int | None:
    import torch

    try:
        model = empty_llm(subject.llm_config)
    except HubError:  # a backend without a transformers config
        return None
    itemsize: int = getattr(torch, subject.dtype).itemsize
    return itemsize * sum(int(p.numel()) for p in model.parameters())


@dataclass(frozen=True)
class _Answer:
    """A run of the stack as it was recorded. ids: of all tokens, those of a repetition included; ms: of each."""

    title: str
    changed: Mapping[str, Any]
    text: str
    ids: list[int]
    ms: list[float]
    trace: SegmentTrace

    def compared(self, greedy: list[int], eos_ids: tuple[int, ...]) -> Run:
        """The answer beside the greedy one's ids."""
        pairs = enumerate(zip(self.ids, greedy, strict=False))
        same = next((i for i, (ours, theirs) in pairs if ours != theirs), min(len(self.ids), len(greedy)))
        ended = "end token" if self.ids and self.ids[-1] in eos_ids else "limit"
        return Run(
            title=self.title,
            changed=dict(self.changed),
            text=self.text,
            tokens=len(self.ids),
            ended="repetition" if loop_start(self.ids) is not None else ended,
            as_greedy=same,
            ms_per_token=statistics.median(self.ms[1:]) if len(self.ms) > 1 else None,
        )


def _answers(stack: Stack, wave: Waveform) -> list[_Answer]:
    """The greedy answer, and the others that the backend's options allow."""
    known = stack.parts[Stage.LLM].call_options.model_fields
    plain = {name: value for name, value in (("temperature", 0.0), ("adapter", True)) if name in known}
    shared = StageCache()  # the audio is encoded once
    greedy = _answer(stack, wave, shared, "greedy", plain, {})
    n = len(greedy.ids)
    others: list[tuple[str, dict[str, Any]]] = []
    longest = {}
    if "max_new_tokens" in known:
        limits = sorted({1, max(1, n // 2)} - {n})
        others += [(f"at most {limit} token{'s' * (limit > 1)}", {"max_new_tokens": limit}) for limit in limits]
        longest = {"max_new_tokens": min(n + SPARE, stack.options[Stage.LLM].model_dump()["max_new_tokens"])}
    if {"temperature", "seed"} <= known.keys():
        others += [
            (f"drawn, temperature {t:g}, seed {seed}", {"temperature": t, "seed": seed, **longest})
            for t in TEMPERATURES
            for seed in SEEDS
        ]
    if "adapter" in known:
        others.append(("adapter off", {"adapter": False, **longest}))
    return [greedy, *(_answer(stack, wave, shared, title, plain, changed) for title, changed in others)]


def _answer(
    stack: Stack, wave: Waveform, shared: StageCache, title: str, plain: Mapping[str, Any], changed: Mapping[str, Any]
) -> _Answer:
    """Run the stack with its own options, except `plain` and `changed`. Raises: HubError when nothing is decoded."""
    options = stack.call_options(**{**plain, **changed})
    ids: list[int] = []
    ms: list[float] = []
    result = None
    started = time.perf_counter()
    for event in stack.run([wave], options, details=True, shared=shared):
        if isinstance(event, Token):
            ids.append(event.id)
            ms.append(1000 * (time.perf_counter() - started))
        if isinstance(event, StageDone | Token):  # the last stage before the tokens has put the prompt together
            started = time.perf_counter()
        if isinstance(event, Done):
            result = event.result
    assert result is not None
    assert result.trace is not None
    if not result.trace.segments:
        raise HubError(f"{wave.name} gives nothing to write: {result.segments[0].note}.", "Give another clip.")
    return _Answer(title, changed, result.text, ids, ms, result.trace.segments[0])


def _two_ways(llm: Any, prompt: Prompt) -> TwoWays | None:
    """transformers' generate with ids and with embeddings; None where the backend holds no such model."""
    import torch

    from ..models.cpu import forward_pass

    model: Any = getattr(llm, "model", None)
    if not hasattr(model, "generate") or prompt.pad_id is None:
        return None
    # Ids cannot carry audio, so both ways get the prompt without its placeholder.
    ids = torch.tensor([[token.id for token in prompt.tokens if not token.slot]], device=model.device)
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

"""Running one stack: audio in, events out, results at the end; and chat (LLM mode)."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from .audio import Limits, Waveform, load_audio
from .errors import HubError
from .injection import Injected, inject
from .inspection import Choices, segment_trace
from .options import by_stage, validate
from .pool import Entry, Pool
from .protocols import ChatBackend, Encoder, Inspectable, LLMBackend, Preprocessor, Projector, PromptTemplate
from .repetition import loop_start
from .segmentation import Span, is_silent, split_at_pauses
from .specs import ComponentSpec, Options, StackSpec, Stage
from .trace import Result, SegmentResult, StageRecord, Trace

if TYPE_CHECKING:
    import torch

BATCH_SEGMENTS = 8
"""Segments decoded together: in bfloat16 a step costs nearly the same from 1 to 16 rows."""


@dataclass(frozen=True)
class StageDone:
    """A stage has finished its work on a batch of segments."""

    record: StageRecord


@dataclass(frozen=True)
class Token:
    """A token was written.

    file, segment: indices of the file in the request and of the segment in the file.
    text: the segment's text so far.
    """

    file: int
    segment: int
    id: int
    logprob: float
    text: str


@dataclass(frozen=True)
class SegmentDone:
    """A segment is finished; `result` will not change any more."""

    file: int
    segment: int
    result: SegmentResult


@dataclass(frozen=True)
class Done:
    """A file is finished."""

    file: int
    result: Result


Event = StageDone | Token | SegmentDone | Done


@dataclass
class _Job:
    """A segment on its way through the stages."""

    file: int
    segment: int
    wave: Waveform
    span: Span
    out: SegmentResult
    trace: Trace | None


class Stack:
    """Five built components that run together; made by `Hub.load`.

    options: call options by stage, validated; `transcribe(..., max_new_tokens=10)` overrides them.
    rate: sample rate in Hz that the preprocessor expects.
    warnings: what fits but was not trained together.
    """

    def __init__(
        self,
        spec: StackSpec,
        specs: Mapping[Stage, ComponentSpec],
        pool: Pool,
        entries: Mapping[Stage, Entry],
        options: Mapping[Stage, Options],
        rate: int,
        warnings: tuple[str, ...] = (),
    ) -> None:
        self.spec = spec
        self.specs = specs
        self.entries = entries
        self.options = dict(options)
        self.rate = rate
        self.warnings = warnings
        self._release = weakref.finalize(self, _release_all, pool, tuple(entries.values()))

    @property
    def name(self) -> str:
        """The stack's name."""
        return self.spec.name

    @property
    def chats(self) -> bool:
        """Whether it also answers text prompts (LLM mode): its backend can, and its LLM learnt to."""
        return self.specs[Stage.LLM].chat and self.spec.chat

    def close(self) -> None:
        """Give the components back to the pool."""
        self._release()

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def component(self, stage: Stage) -> Any:
        """The built component of a stage."""
        return self.entries[stage].component

    def call_options(self, **overrides: Any) -> dict[Stage, Options]:
        """The call options with some values replaced, each in every stage that knows it.

        Raises: OptionError for an unknown name or an unusable value.
        """
        placed = by_stage(overrides, {stage: self.specs[stage] for stage in Stage}) if overrides else {}
        called = dict(self.options)
        for stage, values in placed.items():
            model = self.specs[stage].call_options
            called[stage] = validate(model, {**called[stage].model_dump(), **values}, self.specs[stage].id)
        return called

    def transcribe(self, source: Any, **options: Any) -> Result:
        """Transcribe one file (path, bytes, (rate, samples) or Waveform) and return the result.

        Raises: AudioError, OptionError.
        """
        for event in self.stream(source, **options):
            if isinstance(event, Done):
                return event.result
        raise AssertionError("a run ends with Done")

    def stream(
        self, source: Any, *, limits: Limits | None = None, details: bool = False, **options: Any
    ) -> Iterator[Event]:
        """The same as events, as they happen. Closing the iterator stops the work within a token.

        With `details` the result carries a trace of the injection, the tokens and the attention.
        """
        called = self.call_options(**options)
        started = time.perf_counter()
        wave = self.load_audio(source, limits)
        yield from self.run([wave], called, [time.perf_counter() - started], details)

    def load_audio(self, source: Any, limits: Limits | None = None) -> Waveform:
        """Decode and resample to the rate the stack expects. Raises: AudioError."""
        return source if isinstance(source, Waveform) else load_audio(source, self.rate, limits)

    def run(
        self,
        waves: Sequence[Waveform],
        options: Mapping[Stage, Options] | None = None,
        audio_seconds: Sequence[float] = (),
        details: bool = False,
    ) -> Iterator[Event]:
        """Several decoded files through the stack: their segments are decoded as batches.

        Args:
            waves: at `rate`.
            options: call options of every stage; the stack's own by default.
            audio_seconds: what decoding each file took, for the results.
            details: record a trace of every file.
        """
        options = options or self.options
        results, jobs = [], []
        for i, wave in enumerate(waves):
            started = time.perf_counter()
            result = Result(wave.name, wave.seconds, self.name, warnings=self.warnings)
            result.trace = self._new_trace(wave) if details else None
            for span in split_at_pauses(wave, self.spec.window_seconds):
                out = SegmentResult(span.start, span.end)
                jobs.append(_Job(i, len(result.segments), wave, span, out, result.trace))
                result.segments.append(out)
            spent = time.perf_counter() - started + (audio_seconds[i] if audio_seconds else 0.0)
            result.seconds = {"audio": spent, **{stage.value: 0.0 for stage in Stage}}
            results.append(result)
        open_segments = [len(result.segments) for result in results]
        for batch in (jobs[at : at + BATCH_SEGMENTS] for at in range(0, len(jobs), BATCH_SEGMENTS)):
            for event in self._run_batch(batch, options):
                if isinstance(event, StageDone):
                    total = sum(job.span.end - job.span.start for job in batch)
                    for job in batch:
                        share = (job.span.end - job.span.start) / total
                        results[job.file].seconds[event.record.stage] += event.record.seconds * share
                    for trace in {job.file: job.trace for job in batch}.values():
                        if trace is not None:
                            trace.stages.append(event.record)
                yield event
            for job in batch:
                yield SegmentDone(job.file, job.segment, job.out)
                open_segments[job.file] -= 1
                if not open_segments[job.file]:
                    yield Done(job.file, results[job.file])

    def _new_trace(self, wave: Waveform) -> Trace:
        trace = Trace(wave.name, wave.seconds, self.name, {s.value: self.spec.components[s] for s in Stage})
        for stage, entry in self.entries.items():
            trace.nbytes[stage.value] = entry.nbytes
            trace.parameters[stage.value] = int(getattr(entry.component, "parameters", 0))
        return trace

    def _run_batch(self, batch: list[_Job], options: Mapping[Stage, Options]) -> Iterator[Event]:
        import torch

        clips = []
        for job in batch:
            samples = job.span.of(job.wave)
            if is_silent(samples):
                job.out.note = "silence: nothing to decode"
            else:
                clips.append((job, torch.from_numpy(samples)))
        if not clips:
            return
        jobs = [job for job, _ in clips]
        wav = torch.nn.utils.rnn.pad_sequence([clip for _, clip in clips], batch_first=True)
        lengths = torch.tensor([len(clip) for _, clip in clips])
        features = []
        for stage in (Stage.PREPROCESSOR, Stage.ENCODER, Stage.PROJECTOR):
            started = time.perf_counter()
            component = cast("Preprocessor | Encoder | Projector", self.component(stage))
            wav, lengths = component(wav, lengths)
            if stage is Stage.PREPROCESSOR:
                features = [row[:, :n] for row, n in zip(wav, lengths.tolist(), strict=True)]
            yield self._stage_done(stage, started, wav)
        llm = cast(LLMBackend, self.component(Stage.LLM))
        template = cast(PromptTemplate, self.component(Stage.PROMPT_TEMPLATE))
        started = time.perf_counter()
        prompt = llm.tokenize(template.render(options[Stage.PROMPT_TEMPLATE]))
        kept = [i for i, n in enumerate(lengths.tolist()) if n > 0]
        for i in set(range(len(jobs))) - set(kept):
            jobs[i].out.note = "too short: less than one frame of audio"
        if not kept:
            return
        audio = [wav[i, : lengths[i]] for i in kept]
        injected = inject([prompt] * len(kept), llm.embed, audio, llm.placeholder_id)
        yield self._stage_done(Stage.PROMPT_TEMPLATE, started, injected.inputs_embeds)
        for i, clip in zip(kept, audio, strict=True):
            jobs[i].out.audio_frames = len(clip)
        choices = []
        for mask, clip in zip(injected.attention_mask, audio, strict=True):
            first = int((~mask).sum()) + prompt.index(llm.placeholder_id)
            choices.append(Choices(slice(first, first + len(clip))))
        ids: list[list[int]] = [[] for _ in kept]
        yield from self._decode([jobs[i] for i in kept], injected, options[Stage.LLM], ids, choices)
        for row, i in enumerate(kept):
            trace = jobs[i].trace
            if trace is not None:
                span = (jobs[i].span.start, jobs[i].span.end)
                trace.segments.append(
                    segment_trace(llm, span, prompt, features[i], audio[row], ids[row], choices[row])
                )

    def _decode(
        self, jobs: list[_Job], injected: Injected, options: Options, ids: list[list[int]], choices: list[Choices]
    ) -> Iterator[Event]:
        """Write the segments' texts; `ids` gets each row's tokens, `choices` (with a trace) what else it
        could have written and where it looked."""
        llm = cast(LLMBackend, self.component(Stage.LLM))
        started = time.perf_counter()
        logprobs: list[list[float]] = [[] for _ in jobs]
        loops: dict[int, int] = {}

        def stop(row: int, so_far: Sequence[int]) -> bool:
            start = loop_start(so_far)
            if start is not None:
                loops[row] = start
            return start is not None

        steps = 0
        steps_of = llm.generate
        if isinstance(llm, Inspectable) and any(job.trace is not None for job in jobs):
            steps_of = partial(llm.generate, attention=True)
        for step in steps_of(injected.inputs_embeds, injected.attention_mask, options, stop):
            steps += 1
            for row, id in enumerate(step.ids):
                if id is not None:
                    ids[row].append(id)
                    logprobs[row].append(step.logprobs[row])
                    job = jobs[row]
                    if job.trace is not None:
                        choices[row].add(step, row)
                    job.out.text = llm.decode(ids[row]).rstrip("\ufffd")
                    yield Token(job.file, job.segment, id, step.logprobs[row], job.out.text)
        limit = getattr(options, "max_new_tokens", None)
        for row, job in enumerate(jobs):
            job.out.tokens = len(ids[row])
            job.out.confidence = math.exp(sum(logprobs[row]) / len(logprobs[row])) if ids[row] else None
            if row in loops:
                job.out.note = "stopped: the text repeated itself; the repetition was removed"
                ids[row] = ids[row][: loops[row]]
            elif len(ids[row]) == limit and ids[row][-1] not in llm.eos_ids:
                job.out.note = f"cut off at its limit of {limit} tokens"
            job.out.text = llm.decode(ids[row]).strip()
        yield self._stage_done(Stage.LLM, started, shape=(len(jobs), steps))

    def _stage_done(
        self, stage: Stage, started: float, tensor: torch.Tensor | None = None, shape: tuple[int, ...] = ()
    ) -> StageDone:
        seconds = time.perf_counter() - started
        dtype = str(tensor.dtype).removeprefix("torch.") if tensor is not None else "int64"
        if tensor is not None:
            shape = tuple(tensor.shape)
        return StageDone(StageRecord(stage.value, self.spec.components[stage], seconds, shape, dtype))

    def chat(self, message: str, **options: Any) -> Iterator[str]:
        """LLM mode: answer a text message with the adapter off; yields the answer so far, token by token.

        Raises: HubError when the LLM backend does not offer it.
        """
        import torch

        if not self.chats:
            raise HubError(
                f"Stack {self.name} with {self.spec.components[Stage.LLM]} answers no text prompts.",
                "Choose a stack that can chat, such as canary-qwen-2.5b.",
            )
        llm = cast(ChatBackend, self.component(Stage.LLM))
        called = llm.chat_options(self.call_options(**options)[Stage.LLM])
        ids = torch.tensor([llm.tokenize(llm.chat_segments(message))])
        new: list[int] = []
        for step in llm.generate(llm.embed(ids), torch.ones_like(ids, dtype=torch.bool), called):
            if step.ids[0] is not None:
                new.append(step.ids[0])
                yield llm.decode(new).rstrip("\ufffd")


def _release_all(pool: Pool, entries: Sequence[Entry]) -> None:
    for entry in entries:
        pool.release(entry)

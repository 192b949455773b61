"""Running one stack: audio in, events out, results at the end."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from .assembly import Assembly
from .audio.decode import Limits, load_audio
from .audio.pauses import Segmenter, is_silent, split_at_pauses
from .audio.waveform import Span, Waveform
from .errors import HubError, memory_for
from .options import by_stage, validate
from .run.chat import answers, cut_off
from .run.checks import REPEATED, blamed, check_output, check_step, loop_start, writing
from .run.events import Answer, Done, Event, SegmentDone, StageDone, Token
from .run.injection import Injected, inject
from .run.observe import Observed, observe, segment_trace
from .run.pool import Entry, Pool
from .run.result import Result, SegmentResult, StageRecord, Trace
from .run.reuse import StageCache
from .specs import Options, Stage
from .stages import Inspectable, LLMBackend, PromptTemplate

if TYPE_CHECKING:
    import torch

BATCH_SEGMENTS = 8
"""Segments decoded together: in bfloat16 a step costs nearly the same from 1 to 16 rows."""
_SMALLER = "Choose a smaller stack, dtype=bfloat16 or a shorter window, or close other programs."


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

    entries: the pool's built components.
    options: call options by stage, validated; `transcribe(..., max_new_tokens=10)` overrides them.
    rate: sample rate in Hz that the preprocessor expects.
    segmenter: finds the pauses at which long audio is cut.
    warnings: what fits but was not trained together.
    """

    def __init__(
        self,
        assembly: Assembly,
        entries: Mapping[Stage, Entry],
        pool: Pool,
        segmenter: Segmenter,
    ) -> None:
        self.assembly = assembly
        self.spec, self.parts = assembly.spec, assembly.parts
        self.entries = entries
        self.options = dict(assembly.calls)
        self.segmenter = segmenter
        self.warnings = assembly.fit.warnings
        audio = next((p for p in assembly.contracts[Stage.PREPROCESSOR].accepts if p.kind == "audio"), None)
        self.rate = int(audio.rate_hz) if audio is not None and audio.rate_hz else 16000
        self._release = weakref.finalize(self, _release_all, pool, tuple(entries.values()))

    @property
    def name(self) -> str:
        """The stack's name."""
        return self.spec.name

    @property
    def chats(self) -> bool:
        """Whether it also answers text prompts (LLM mode): its backend can, and its LLM learnt to."""
        return self.parts[Stage.LLM].chat and self.spec.chat

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
        placed = by_stage(overrides, {stage: self.parts[stage] for stage in Stage}) if overrides else {}
        called = dict(self.options)
        for stage, values in placed.items():
            model = self.parts[stage].call_options
            called[stage] = validate(model, {**called[stage].model_dump(), **values}, self.parts[stage].id)
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
        return load_audio(source, self.rate, limits)

    def split(self, wave: Waveform) -> list[Span]:
        """The pieces in which a file is decoded: cut at pauses, none longer than the stack's window.

        Raises: PluginError when the segmenter fails.
        """
        id = self.spec.segmenter
        with blamed(id, "looking for a pause"):
            return split_at_pauses(wave, self.spec.window_seconds, self.segmenter, id)

    def run(
        self,
        waves: Sequence[Waveform],
        options: Mapping[Stage, Options] | None = None,
        audio_seconds: Sequence[float] = (),
        details: bool = False,
        shared: StageCache | None = None,
        spans: Sequence[Sequence[Span]] = (),
        known: Mapping[tuple[int, int], SegmentResult] | None = None,
    ) -> Iterator[Event]:
        """Several decoded files through the stack: their segments are decoded as batches.

        Args:
            waves: at `rate`.
            options: call options of every stage; the stack's own by default.
            audio_seconds: what decoding each file (and cutting it, with `spans`) took, for the results.
            details: record a trace of every file.
            shared: stage outputs that runs of other stacks on the same waves may have made already.
            spans: of each file, what `split` gave; else they are found here.
            known: segments by the indices of file and segment that an earlier, equal run has finished. A batch is
                left out if all of it is known, so that the others are composed, and come out, as they did there.
        """
        options = options or self.options
        results, jobs = [], []
        for i, wave in enumerate(waves):
            started = time.perf_counter()
            result = Result(wave.name, wave.seconds, self.name, warnings=self.warnings)
            result.trace = self._new_trace(wave) if details else None
            for span in spans[i] if spans else self.split(wave):
                out = SegmentResult(span.start, span.end)
                jobs.append(_Job(i, len(result.segments), wave, span, out, result.trace))
                result.segments.append(out)
            spent = time.perf_counter() - started + (audio_seconds[i] if audio_seconds else 0.0)
            result.seconds = {"audio": spent, **{stage.value: 0.0 for stage in Stage}}
            results.append(result)
        open_segments = [len(result.segments) for result in results]
        for batch in (jobs[at : at + BATCH_SEGMENTS] for at in range(0, len(jobs), BATCH_SEGMENTS)):
            if known and all((job.file, job.segment) in known for job in batch):
                for job in batch:
                    results[job.file].segments[job.segment] = job.out = known[job.file, job.segment]
            else:
                yield from self._counted(self._run_batch(batch, options, shared), batch, results)
            for job in batch:
                yield SegmentDone(job.file, job.segment, job.out)
                open_segments[job.file] -= 1
                if not open_segments[job.file]:
                    yield Done(job.file, results[job.file])

    def _counted(self, events: Iterator[Event], batch: list[_Job], results: list[Result]) -> Iterator[Event]:
        """A batch's events, the time of each stage shared out to the files by their audio."""
        seconds = [job.span.end - job.span.start for job in batch]
        pieces = f"{len(batch)} piece{'s'[: len(batch) > 1]} of up to {max(seconds):.1f} s"
        with memory_for(f"run stack {self.name} on {pieces}", _SMALLER):
            for event in events:
                if isinstance(event, StageDone):
                    for job, part in zip(batch, seconds, strict=True):
                        results[job.file].seconds[event.record.stage] += event.record.seconds * part / sum(seconds)
                    for trace in {job.file: job.trace for job in batch}.values():
                        if trace is not None:
                            trace.stages.append(event.record)
                yield event

    def _new_trace(self, wave: Waveform) -> Trace:
        trace = Trace(wave.name, wave.seconds, self.name, {s.value: self.spec.components[s] for s in Stage})
        for stage, entry in self.entries.items():
            trace.nbytes[stage.value] = entry.nbytes
            trace.parameters[stage.value] = entry.parameters
        return trace

    def _run_batch(
        self, batch: list[_Job], options: Mapping[Stage, Options], shared: StageCache | None
    ) -> Iterator[Event]:
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
        # The audio by its wave, not by its samples: runs that share have loaded it once.
        made_by: tuple[Hashable, ...] = tuple((job.wave, job.span) for job in jobs)
        features = []
        for stage in (Stage.PREPROCESSOR, Stage.ENCODER, Stage.PROJECTOR):
            made_by = (self.entries[stage], made_by)
            work = partial(self._work, stage, wav, lengths)
            (wav, lengths, seconds), known = shared.get(made_by, work) if shared else (work(), False)
            if stage is Stage.PREPROCESSOR:
                features = [row[:, :n] for row, n in zip(wav, lengths.tolist(), strict=True)]
            yield self._stage_done(stage, seconds, wav, lengths, known)
        llm = cast(LLMBackend, self.component(Stage.LLM))
        template = cast(PromptTemplate, self.component(Stage.PROMPT_TEMPLATE))
        started = time.perf_counter()
        with blamed(self.spec.components[Stage.PROMPT_TEMPLATE], "rendering the prompt"):
            rendered = template.render(options[Stage.PROMPT_TEMPLATE])
        with blamed(self.spec.components[Stage.LLM], "tokenizing the prompt"):
            prompt = llm.tokenize(rendered)
        frames = lengths.tolist()  # one wait for a GPU, not one a row
        kept = [i for i, n in enumerate(frames) if n > 0]
        for i in set(range(len(jobs))) - set(kept):
            jobs[i].out.note = "too short: less than one frame of audio"
        if not kept:
            return
        audio = [wav[i, : frames[i]] for i in kept]
        with blamed(self.spec.components[Stage.LLM], "embedding the prompt"):
            injected = inject([prompt] * len(kept), llm.embed, audio, llm.placeholder_id)
        seconds = time.perf_counter() - started
        positions = injected.attention_mask.sum(dim=1)
        yield self._stage_done(Stage.PROMPT_TEMPLATE, seconds, injected.inputs_embeds, positions)
        for i, clip in zip(kept, audio, strict=True):
            jobs[i].out.audio_frames = len(clip)
        choices = []
        for mask, clip in zip(injected.attention_mask, audio, strict=True):
            first = int((~mask).sum()) + prompt.index(llm.placeholder_id)
            choices.append(Observed(slice(first, first + len(clip))))
        ids: list[list[int]] = [[] for _ in kept]
        yield from self._decode([jobs[i] for i in kept], injected, options[Stage.LLM], ids, choices)
        frame_seconds = getattr(self.component(Stage.PROJECTOR), "frame_seconds", None)
        for row, i in enumerate(kept):
            trace = jobs[i].trace
            if trace is not None:
                span = (jobs[i].span.start, jobs[i].span.end)
                made = (prompt, features[i], audio[row], ids[row], choices[row])
                trace.segments.append(segment_trace(llm, span, *made, frame_seconds))

    def _decode(
        self,
        jobs: list[_Job],
        injected: Injected,
        options: Options,
        ids: list[list[int]],
        choices: list[Observed],
    ) -> Iterator[Event]:
        """Write the segments' texts; `ids` gets each row's tokens, `choices` (with a trace) what else it
        could have written and where it looked."""
        llm, name = cast(LLMBackend, self.component(Stage.LLM)), self.spec.components[Stage.LLM]
        started = time.perf_counter()
        logprobs: list[list[float]] = [[] for _ in jobs]
        loops: dict[int, int] = {}

        def stop(row: int, so_far: Sequence[int]) -> bool:
            start = loop_start(so_far)
            if start is not None:
                loops[row] = start
            return start is not None

        watched = any(job.trace is not None for job in jobs)
        steps = 0
        steps_of = llm.generate
        if watched and isinstance(llm, Inspectable):
            steps_of = partial(llm.generate, attention=True)
        begin = partial(steps_of, injected.inputs_embeds, injected.attention_mask, options, stop)
        with closing(writing(name, begin)) as written, blamed(name, "decoding tokens"):
            for step in written:
                check_step(name, step, len(jobs))
                steps += 1
                if watched:
                    observe(step, choices)
                for row, id in enumerate(step.ids):
                    if id is not None:
                        ids[row].append(id)
                        logprobs[row].append(step.logprobs[row])
                        job = jobs[row]
                        job.out.text = llm.decode(ids[row]).rstrip("\ufffd")
                        yield Token(job.file, job.segment, id, step.logprobs[row], job.out.text)
        limit = getattr(options, "max_new_tokens", None)
        for row, job in enumerate(jobs):
            job.out.tokens = len(ids[row])
            job.out.confidence = math.exp(sum(logprobs[row]) / len(logprobs[row])) if ids[row] else None
            if row in loops:
                job.out.note = REPEATED
                ids[row] = ids[row][: loops[row]]
            elif len(ids[row]) == limit and ids[row][-1] not in llm.eos_ids:
                job.out.note = cut_off(limit)
            job.out.text = llm.decode(ids[row]).strip()
        spent = time.perf_counter() - started
        yield StageDone(StageRecord(Stage.LLM.value, name, spent, (len(jobs), steps), "int64"))

    def _work(self, stage: Stage, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
        """What a stage before the LLM makes of a batch, and the seconds it took. Raises: PluginError."""
        id, started = self.spec.components[stage], time.perf_counter()
        with blamed(id, "running"):
            output = self.component(stage)(x, lengths)
        produced = self.assembly.contracts[stage].produces
        dim = produced[0].dim if len(produced) == 1 else None
        check_output(id, output, len(x), 2 if stage is Stage.PREPROCESSOR else 1, dim)
        return *output, time.perf_counter() - started

    def _stage_done(
        self, stage: Stage, seconds: float, output: torch.Tensor, lengths: torch.Tensor, shared: bool = False
    ) -> StageDone:
        dtype = str(output.dtype).removeprefix("torch.")
        record = StageRecord(stage.value, self.spec.components[stage], seconds, tuple(output.shape), dtype, shared)
        return StageDone(record, output, lengths)

    def chat(self, message: str, **options: Any) -> Iterator[Answer]:
        """LLM mode: answer a text message with the adapter off, token by token. Closing the iterator stops it.

        Raises: HubError when the LLM backend does not offer it.
        """
        if not self.chats:
            raise HubError(
                f"Stack {self.name} with {self.spec.components[Stage.LLM]} answers no text prompts.",
                "Choose a stack that can chat, such as canary-qwen-2.5b.",
            )
        called = self.call_options(**options)[Stage.LLM]
        llm, name = self.component(Stage.LLM), self.spec.components[Stage.LLM]
        yield from answers(llm, name, message, called)


def _release_all(pool: Pool, entries: Sequence[Entry]) -> None:
    for entry in entries:
        pool.release(entry)

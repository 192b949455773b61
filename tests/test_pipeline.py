"""Running a stack on real audio: events, batches, limits, loops, silence, and chat."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from canary_hub import Done, Hub, SegmentDone, StageDone, Token
from canary_hub.audio.waveform import Waveform
from canary_hub.errors import AudioError, HubError, OptionError
from canary_hub.pipeline import Stack
from canary_hub.run.checks import loop_start
from canary_hub.run.reuse import StageCache
from canary_hub.specs import StackSpec, Stage
from canary_hub.stages import Step


@pytest.fixture
def stack(hub: Hub, tiny_spec: StackSpec) -> Stack:
    return hub.load(tiny_spec, dtype="float32", device="cpu")


@pytest.fixture
def speech(oracle: Path) -> Path:
    return oracle / "audio" / "speech.wav"


def test_stream_tells_everything_in_order(stack: Stack, speech: Path) -> None:
    events = list(stack.stream(speech))
    stages = [event.record.stage for event in events if isinstance(event, StageDone)]
    assert stages == ["preprocessor", "encoder", "projector", "prompt-template", "llm"]
    done = events[-1]
    assert isinstance(done, Done)
    tokens = [event for event in events if isinstance(event, Token)]
    assert len(tokens) == done.result.segments[0].tokens == 2  # NeMo's ids for this clip: [331, 398]
    assert [token.id for token in tokens] == [331, 398]
    assert done.result.text == "user"
    assert done.result.segments[0].audio_frames == 138
    assert 0 < done.result.segments[0].confidence <= 1
    assert set(done.result.seconds) == {"audio", *(stage.value for stage in Stage)}
    assert done.result.total_seconds > 0


def test_logprobs_are_a_softmax_over_the_whole_vocabulary(stack: Stack) -> None:
    llm = stack.component(Stage.LLM)
    ids = torch.tensor([[5, 6, 7]])
    options = stack.call_options(max_new_tokens=1)[Stage.LLM]
    (step,) = llm.generate(llm.embed(ids), torch.ones(1, 3, dtype=torch.bool), options)
    with torch.inference_mode():
        logits = llm.model(input_ids=ids).logits[0, -1]
    assert step.ids[0] == logits.argmax().item()
    assert step.logprobs[0] == pytest.approx(logits.softmax(-1).max().log().item(), abs=1e-5)


def test_files_together_equal_files_alone(stack: Stack, oracle: Path) -> None:
    waves = [stack.load_audio(oracle / "audio" / f"{name}.wav") for name in ("b0", "b1", "b2")]
    together = {e.file: e.result.text for e in stack.run(waves) if isinstance(e, Done)}
    alone = [stack.transcribe(wave).text for wave in waves]
    assert [together[i] for i in range(3)] == alone


def test_long_audio_is_cut_and_nothing_is_lost(hub: Hub, tiny_spec: StackSpec, oracle: Path) -> None:
    from dataclasses import replace

    short = hub.load(replace(tiny_spec, window_seconds=4.0), dtype="float32", device="cpu")
    result = short.transcribe(oracle / "audio" / "long34.wav", max_new_tokens=4)
    assert len(result.segments) >= 9
    assert result.segments[0].start == 0
    assert result.segments[-1].end == pytest.approx(result.duration)
    for before, after in zip(result.segments, result.segments[1:], strict=False):
        assert before.end == after.start
        assert before.end - before.start <= 4.0 + 1e-6
    frames = sum(segment.audio_frames for segment in result.segments)
    assert frames == pytest.approx(result.duration * 12.5, abs=len(result.segments))


def test_a_segment_cut_by_its_limit_is_marked(stack: Stack, oracle: Path) -> None:
    result = stack.transcribe(oracle / "audio" / "slice0p2.wav", max_new_tokens=3)
    assert result.segments[0].tokens == 3
    assert result.segments[0].note == "cut off at its limit of 3 tokens"


def test_a_loop_is_stopped_marked_and_removed(stack: Stack, speech: Path, monkeypatch) -> None:
    llm = stack.component(Stage.LLM)
    text = llm.tokenizer.encode(llm.chat_segments("ask")[1:2])  # some plain ids

    def forever(embeds, mask, options, stop):
        ids: list[int] = []
        while True:
            ids.append(text[len(ids) % len(text)])
            yield Step((ids[-1],), (-0.1,), torch.zeros(1, 2))
            if stop(0, ids):
                return

    monkeypatch.setattr(llm, "generate", forever)
    segment = stack.transcribe(speech).segments[0]
    assert "repeated itself" in segment.note
    assert segment.text == llm.decode(text).strip()


def test_repeated_words_are_no_loop() -> None:
    assert loop_start([7, 7, 7, 7, 7, 7, 7, 7]) is None
    assert loop_start([3, 1, 2] * 11) is None
    assert loop_start([9, 9] + [3, 1, 2] * 12) == 5
    assert loop_start([5] * 36) == 1


def test_silence_is_an_empty_transcript_without_decoding(stack: Stack) -> None:
    wave = Waveform(np.zeros(16000 * 100, np.float32), 16000, "silence")
    events = list(stack.stream(wave))
    assert not [event for event in events if isinstance(event, Token | StageDone)]
    result = events[-1].result
    assert result.text == ""
    assert len(result.segments) == 3
    assert all("silence" in segment.note for segment in result.segments)


def test_less_than_a_frame_is_said(stack: Stack) -> None:
    tone = np.sin(np.arange(100) / 5).astype(np.float32)
    result = stack.transcribe(Waveform(tone, 16000, "blip"))
    assert "too short" in result.segments[0].note


def test_closing_the_stream_stops_and_frees_the_model(stack: Stack, oracle: Path) -> None:
    source = oracle / "audio" / "slice0p2.wav"
    stream = stack.stream(source)
    next(event for event in stream if isinstance(event, Token))
    stream.close()
    finished = threading.Event()
    worker = threading.Thread(target=lambda: (stack.transcribe(source, max_new_tokens=2), finished.set()))
    worker.start()
    worker.join(30)
    assert finished.is_set()


def test_concurrent_runs_do_not_mix(stack: Stack, oracle: Path) -> None:
    names = ["b0", "b1", "b2", "slice1p3"] * 3
    expected = {name: stack.transcribe(oracle / "audio" / f"{name}.wav").text for name in set(names)}
    got: list[tuple[str, str]] = []

    def work(name: str) -> None:
        got.append((name, stack.transcribe(oracle / "audio" / f"{name}.wav").text))

    workers = [threading.Thread(target=work, args=(name,)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(got) == len(names)
    assert all(text == expected[name] for name, text in got)


def test_segments_done_are_final(stack: Stack, speech: Path) -> None:
    *_, segment, done = list(stack.stream(speech))
    assert isinstance(segment, SegmentDone)
    assert done.result.segments[0] is segment.result


def test_chat_runs_without_the_adapter_and_leaves_it_on(stack: Stack, speech: Path) -> None:
    before = stack.transcribe(speech).text
    answer = list(stack.chat("What is the capital of France?", max_new_tokens=24))
    assert answer[-1].text == "hat\\]user�\x0beningqivenw listir and$aaaaJ�Xle"  # NeMo's text, adapter off
    assert {part.note for part in answer} == {None}
    *_, cut = stack.chat("What is the capital of France?", max_new_tokens=5)
    assert cut.note == "cut off at its limit of 5 tokens"
    assert answer[-1].text.startswith(cut.text)
    assert stack.transcribe(speech).text == before


def test_both_lora_forms_write_the_same(hub: Hub, tiny_spec: StackSpec, stack: Stack, oracle: Path) -> None:
    live = hub.load(tiny_spec, components={Stage.LLM: "canary/qwen3-peft"}, dtype="float32", device="cpu")
    assert live.transcribe(oracle / "audio" / "b0.wav").text == stack.transcribe(oracle / "audio" / "b0.wav").text
    off = stack.transcribe(oracle / "audio" / "b0.wav", adapter=False).text
    assert off != stack.transcribe(oracle / "audio" / "b0.wav").text
    assert live.transcribe(oracle / "audio" / "b0.wav", adapter=False).text == off


def test_drawn_tokens_follow_the_seed(stack: Stack, oracle: Path) -> None:
    source = oracle / "audio" / "b1.wav"
    first = stack.transcribe(source, temperature=1.0, seed=1, max_new_tokens=12).text
    assert stack.transcribe(source, temperature=1.0, seed=1, max_new_tokens=12).text == first
    assert any(stack.transcribe(source, temperature=1.0, seed=s, max_new_tokens=12).text != first for s in (2, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_token": 3}, "Did you mean max_new_tokens"),
        ({"max_new_tokens": 0}, "max_new_tokens: .*greater than or equal to 1"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
def test_wrong_options_are_explained(stack: Stack, speech: Path, options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        stack.transcribe(speech, **options)


def test_a_bfloat16_stack_runs(hub: Hub, tiny_spec: StackSpec, speech: Path) -> None:
    stack = hub.load(tiny_spec, dtype="bfloat16", device="cpu")
    assert stack.component(Stage.ENCODER).dtype is torch.bfloat16
    assert stack.transcribe(speech, max_new_tokens=5).segments[0].tokens >= 1
    with pytest.raises(HubError, match="float8"):
        hub.load(tiny_spec, dtype="float8")


def test_other_rates_are_resampled(stack: Stack, oracle: Path, tmp_path: Path) -> None:
    samples, rate = soundfile.read(oracle / "audio" / "slice1p3.wav", dtype="float32")
    soundfile.write(tmp_path / "stereo.wav", np.stack([samples, samples], 1).repeat(2, axis=0), 2 * rate)
    result = stack.transcribe(tmp_path / "stereo.wav", max_new_tokens=2)
    assert result.duration == pytest.approx(1.3, abs=0.01)


def test_a_waveform_of_another_rate_is_resampled_and_an_empty_one_refused(stack: Stack, oracle: Path) -> None:
    samples, rate = soundfile.read(oracle / "audio" / "b0.wav", dtype="float32")
    expected = stack.load_audio((rate, samples[::2]))
    assert rate == 16000
    given = stack.load_audio(Waveform(samples[::2], 8000, "half"))
    assert (given.rate, given.name, len(given.samples)) == (16000, "half", 2 * len(expected.samples))
    with pytest.raises(AudioError, match="nothing"):
        stack.transcribe(Waveform(np.zeros(0, np.float32), 16000, "nothing"))


def test_runs_share_what_the_same_components_made(hub: Hub, tiny_spec: StackSpec, oracle: Path) -> None:
    swapped = replace(tiny_spec, name="live", components={**tiny_spec.components, Stage.LLM: "canary/qwen3-peft"})
    longer = replace(tiny_spec, name="short window", window_seconds=4.0)
    stacks = [hub.load(spec, dtype="float32", device="cpu") for spec in (tiny_spec, swapped, longer)]
    wave = stacks[0].load_audio(oracle / "audio" / "speech.wav")
    shared = StageCache()
    marks, encoded = [], []
    for stack in stacks:
        alone = stack.transcribe(wave, max_new_tokens=5)
        events = list(stack.run([wave], stack.call_options(max_new_tokens=5), shared=shared))
        assert events[-1].result.text == alone.text
        done = [event for event in events if isinstance(event, StageDone)]
        marks.append([event.record.shared for event in done])
        encoded.append(done[1].output)
    assert marks[0] == [False] * 5
    assert marks[1] == [True, True, True, False, False]
    assert not any(marks[2])
    assert encoded[1] is encoded[0]

"""The OpenAI-compatible endpoint, with the openai client from PyPI against a real server."""

from __future__ import annotations

import io
import itertools
import threading
import time

import httpx
import openai
import pytest
from api_server import DIGITS, endless_steps, served

import canary_hub
from canary_hub.ui.api import turns


@pytest.fixture(scope="module")
def url():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANARY_HUB_MAX_FILE_MB", "2")
        patch.setenv("CANARY_HUB_MAX_SECONDS", "20")
        patch.setenv("CANARY_HUB_QUEUE", "1")
        with served() as address:
            yield address


@pytest.fixture(scope="module")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none needed", max_retries=0)


@pytest.fixture(scope="module")
def speech():
    """Three digits with pauses, as a WAV file, and what `nano` reads in them by Python."""
    import numpy as np
    import soundfile

    clips = [soundfile.read(DIGITS / f"{word}.flac") for word in ("seven", "four", "nine")]
    pause = np.zeros(6000)
    samples = np.concatenate([part for clip, _ in clips for part in (pause, clip)] + [pause])
    file = io.BytesIO()
    soundfile.write(file, samples, clips[0][1], format="WAV")
    result = canary_hub.Hub(allow=()).load("nano").transcribe(file.getvalue())
    assert len(result.text.split()) > 1
    return "three digits.wav", file.getvalue(), result


def ask(client, speech, **options):
    return client.audio.transcriptions.create(file=speech[:2], **{"model": "nano", **options})


def test_models_are_the_stacks(client):
    assert {"nano", "tiny", "endless"} <= {model.id for model in client.models.list()}


def test_json_and_the_texts(client, speech):
    result = speech[2]
    answer = ask(client, speech)
    assert answer.text == result.text
    assert answer.usage.seconds == pytest.approx(result.duration, abs=1e-3)
    assert ask(client, speech, response_format="text").strip() == result.text
    assert ask(client, speech, response_format="srt").startswith("1\n00:00:00,000 --> 00:00:0")
    assert ask(client, speech, response_format="vtt").startswith("WEBVTT\n\n00:00:00.000 --> 00:00:0")


def test_a_long_name_in_letters_of_several_bytes_is_cut(client, speech):
    assert ask(client, ("語" * 120 + ".flac", *speech[1:])).text == speech[2].text


def test_verbose_json_has_segments_and_words_where_they_are_asked_for(client, speech):
    result = speech[2]
    plain = ask(client, speech, response_format="verbose_json")
    assert plain.words is None
    assert [s.text for s in plain.segments] == [s.text for s in result.segments]
    assert plain.duration == pytest.approx(result.duration, abs=1e-3)
    both = ask(client, speech, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    words = both.words
    assert " ".join(word.word for word in words) == both.text == result.text
    assert all(word.start < word.end <= result.duration for word in words)
    assert all(one.end <= two.start + 1e-6 for one, two in itertools.pairwise(words))
    assert words[0].start > 0.2  # a pause comes first
    assert all(segment.tokens and -3 < segment.avg_logprob <= 0 for segment in both.segments)
    only = ask(client, speech, response_format="verbose_json", timestamp_granularities=["word"])
    assert only.segments is None


def test_what_has_no_effect_is_said(client, speech):
    answer = ask(client, speech, prompt="Digits.", language="en", temperature=0)
    assert answer.warnings == ["language has no effect here.", "prompt has no effect here."]
    assert not hasattr(ask(client, speech), "warnings")


def test_a_stream_adds_up_to_the_text(client, speech):
    *deltas, done = ask(client, speech, stream=True)
    assert {delta.type for delta in deltas} == {"transcript.text.delta"}
    assert done.type == "transcript.text.done"
    assert "".join(delta.delta for delta in deltas) == done.text == speech[2].text


def test_segments_that_are_decoded_side_by_side_stream_in_order():
    from canary_hub.run.result import Result, SegmentResult
    from canary_hub.ui.api.openai_shapes import settled
    from canary_hub.ui.widgets.runs import UNFINISHED, Moment

    open_ones = [SegmentResult(0, 1, "one tw", note=UNFINISHED), SegmentResult(1, 2, "thr", note=UNFINISHED)]
    moment = Moment("busy", text="one tw thr", result=Result("a", 2, "s", open_ones))
    assert settled(moment) == "one tw"
    first_done = [SegmentResult(0, 1, "one two"), open_ones[1]]
    assert settled(Moment("busy", result=Result("a", 2, "s", first_done))) == "one two thr"


@pytest.mark.parametrize(
    ("options", "error", "param", "said"),
    [
        ({"model": "nanoo"}, "NotFoundError", "model", "nano"),
        ({"response_format": "xml"}, "BadRequestError", "response_format", "verbose_json"),
        ({"response_format": "srt", "stream": True}, "BadRequestError", "stream", "json or text"),
        ({"temperature": 3}, "BadRequestError", "temperature", "less than or equal to 2"),
        ({"timestamp_granularities": ["word"]}, "BadRequestError", "timestamp_granularities[]", "verbose_json"),
    ],
)
def test_what_cannot_be_had_is_an_error_of_openais_shape(client, speech, options, error, param, said):
    with pytest.raises(getattr(openai, error), match=said) as caught:
        ask(client, speech, **options)
    assert caught.value.body["param"] == param
    assert set(caught.value.body) == {"message", "type", "param", "code"}


def test_bad_audio_is_the_clients_fault_streamed_or_not(client, url):
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=r"a\.wav holds no audio"):
            client.audio.transcriptions.create(file=("../a.wav", b"text"), model="nano", stream=stream)
    answer = httpx.post(f"{url}/v1/audio/transcriptions", data={"model": "nano"}, files={"other": b""})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
    answer = httpx.post(f"{url}/v1/audio/transcriptions", json={"model": "nano"})
    assert answer.json()["error"]["message"].startswith("Send a multipart form")
    answer = httpx.get(f"{url}/v1/nothing")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


def test_files_that_are_too_large_or_too_long(client, url):
    import numpy as np
    import soundfile

    for size in (2_000_001, 3_100_000):
        with pytest.raises(openai.APIStatusError, match="larger than 2 MB") as caught:
            client.audio.transcriptions.create(file=("a.wav", bytes(size)), model="nano")
        assert caught.value.status_code == 413

    def without_a_length():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(40):
            yield bytes(100_000)

    form = {"content-type": "multipart/form-data; boundary=x"}
    try:
        answer = httpx.post(f"{url}/v1/audio/transcriptions", content=without_a_length(), headers=form)
        assert answer.status_code == 413
    except httpx.TransportError:  # refused while it was still being sent
        pass
    long = io.BytesIO()
    soundfile.write(long, np.zeros(21 * 8000, np.int16), 8000, format="WAV")
    with pytest.raises(openai.BadRequestError, match="long"):
        client.audio.transcriptions.create(file=("a.wav", long.getvalue()), model="nano")


def steps_stop() -> None:
    """Wait until stack `endless` has stopped writing."""
    for _ in range(100):
        before = endless_steps()[-1]
        time.sleep(0.3)
        if endless_steps()[-1] == before:
            return
    pytest.fail("it writes on")


def test_hanging_up_stops_the_run_and_frees_the_queue(client, speech):
    stream = ask(client, speech, model="endless", stream=True)
    assert next(stream).type == "transcript.text.delta"
    stream.close()
    steps_stop()
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=3), speech, model="endless")
    steps_stop()
    assert ask(client, speech).text == speech[2].text


def test_one_run_at_a_time_and_a_full_queue_says_so(client, speech):
    stream = ask(client, speech, model="endless", stream=True)
    next(stream)
    answers = []

    def wait() -> None:
        try:
            answers.append(ask(client, speech).text)
        except openai.OpenAIError as error:
            answers.append(error)

    both = [threading.Thread(target=wait) for _ in range(2)]
    for thread in both:
        thread.start()
    for _ in range(100):
        if answers:
            break
        time.sleep(0.1)
    (refused,) = answers  # the other one waits
    assert isinstance(refused, openai.InternalServerError)
    assert (refused.status_code, refused.body["code"]) == (503, "overloaded")
    assert 1 <= int(refused.response.headers["retry-after"]) <= 60
    assert refused.body["message"].startswith("Busy: the queue is full, this would be number 2 in it. Try again in ")
    stream.close()
    for thread in both:
        thread.join(30)
    assert answers[1] == speech[2].text


def test_who_hangs_up_while_waiting_leaves_the_queue(client, speech):
    with ask(client, speech, model="endless", stream=True) as stream:
        next(stream)
        for _ in range(2):  # there is one place
            with pytest.raises(openai.APITimeoutError):
                ask(client.with_options(timeout=1.5), speech)
            time.sleep(1)


def test_it_waits_for_a_run_of_the_page(client, url, speech):
    from gradio_client import Client, handle_file

    page = Client(url, verbose=False, analytics_enabled=False)
    job = page.submit(handle_file(str(DIGITS / "one.flac")), "endless", api_name="/transcribe")
    next(text for text in job if text)
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=1.5), speech)
    time.sleep(1)  # it has left the queue by now
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "WAIT_SECONDS", 0.5)
        with pytest.raises(openai.InternalServerError, match=r"no turn within 0\.5 s; this was number 2"):
            ask(client, speech)
    job.cancel()
    assert ask(client, speech).text == speech[2].text


def test_one_visitors_share(speech, monkeypatch):
    monkeypatch.setenv("CANARY_HUB_PER_VISITOR", "1")
    with served() as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
        with ask(client, speech, model="endless", stream=True) as stream:
            next(stream)
            with pytest.raises(openai.RateLimitError, match="You have 1 run"):
                ask(client, speech)


def test_a_page_with_a_login_wants_its_password(speech):
    with served(auth=("ada", "correct horse")) as url:
        for key in ("wrong", "ada"):
            with pytest.raises(openai.AuthenticationError, match="Give its password"):
                openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0).models.list()
        allowed = openai.OpenAI(base_url=f"{url}/v1", api_key="correct horse", max_retries=0)
        assert ask(allowed, speech).text == speech[2].text

"""Shared results: they open as they were saved, nobody guesses or deletes them, and they go in time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hub_server import ME, TOKEN, HubServer, Space

from canary_hub import Hub, Result, SegmentResult
from canary_hub.audio.waveform import Waveform
from canary_hub.errors import HubError
from canary_hub.run.events import Done
from canary_hub.share.store import SharedResults

DAY = 86400.0


class Clock:
    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def shared(tmp_path: Path) -> SharedResults:
    return SharedResults(tmp_path / "shared", days=2, now=Clock())


def result(text: str = "three <b>one</b>") -> Result:
    return Result("a.wav", 2.5, "nano", [SegmentResult(0, 2.5, text, 31, 4, 0.9)], {"audio": 0.1}, ("odd",))


def test_a_result_opens_after_a_restart_as_it_was(shared: SharedResults) -> None:
    wave = Waveform(np.linspace(-1, 1, 4000, dtype=np.float32), 16000, "../secret name.wav")
    saved = shared.save(result(), wave)
    again = SharedResults(shared.folder, now=shared.now).open(saved.id)
    assert again.result == result()
    assert again.expires == again.created + 2 * DAY
    assert again.audio is not None
    samples, rate = soundfile.read(again.audio, dtype="float32")
    assert rate == 16000
    np.testing.assert_allclose(samples, wave.samples, atol=1e-4)
    assert b"secret" not in again.audio.read_bytes()
    assert shared.open(shared.save(result()).id).audio is None


def test_a_trace_travels_with_it(shared: SharedResults, hub: Hub) -> None:
    stack = hub.load("nano")
    clip = Path(__file__).parents[1] / "digits" / "three.flac"
    (done,) = [event for event in stack.stream(clip, details=True) if isinstance(event, Done)]
    opened = shared.open(shared.save(done.result).id)
    assert opened.result == done.result
    assert opened.result.trace is not None


def test_only_the_key_deletes_it(shared: SharedResults) -> None:
    saved = shared.save(result())
    with pytest.raises(HubError, match="does not belong"):
        shared.delete(saved.id, "x" * 22)
    assert saved.key not in (shared.folder / "results" / saved.id / "about.json").read_text()
    shared.delete(saved.id, saved.key)
    with pytest.raises(HubError, match="no shared result"):
        shared.open(saved.id)
    assert list((shared.folder / "results").iterdir()) == []


def test_it_expires(shared: SharedResults) -> None:
    saved = shared.save(result())
    shared.now.at += 2 * DAY + 1  # type: ignore[attr-defined]
    with pytest.raises(HubError, match="expired"):
        shared.open(saved.id)
    shared.save(result())
    assert len(list((shared.folder / "results").iterdir())) == 1


@pytest.mark.parametrize("id", ["", "..", "../../etc", "a" * 21, "a" * 22, "a" * 22 + "\n", "/etc/passwd", "%2e%2e"])
def test_ids_lead_nowhere_else(shared: SharedResults, id: str) -> None:
    with pytest.raises(HubError, match="no shared result"):
        shared.open(id)


def test_a_result_that_is_too_large_leaves_nothing_behind(tmp_path: Path) -> None:
    small = SharedResults(tmp_path, max_bytes=2000)
    noise = np.random.default_rng(0).uniform(-1, 1, 16000).astype(np.float32)
    with pytest.raises(HubError, match="without the audio"):
        small.save(result(), Waveform(noise, 16000, "a.wav"))
    assert list((tmp_path / "results").iterdir()) == []
    small.save(result())


def test_all_together_stay_under_a_limit_until_some_expire(shared: SharedResults) -> None:
    wave = Waveform(np.random.default_rng(0).uniform(-1, 1, 16000).astype(np.float32), 16000, "a.wav")
    shared.total_bytes = 100_000  # three of about 30 kB
    for _ in range(3):
        shared.save(result(), wave)
    with pytest.raises(HubError, match="no room for more shared results"):
        shared.save(result(), wave)
    assert len(list((shared.folder / "results").iterdir())) == 3
    assert not list((shared.folder / "unfinished").iterdir())
    shared.now.at += 3 * DAY
    shared.save(result(), wave)


def test_a_damaged_one_is_told(shared: SharedResults) -> None:
    saved = shared.save(result())
    folder = shared.folder / "results" / saved.id
    (folder / "result.json").write_text("{}")
    with pytest.raises(HubError, match="damaged"):
        shared.open(saved.id)
    (folder / "about.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(HubError, match="no shared result"):
        shared.open(saved.id)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The Hub's stand-in with the data set ann/shared."""
    server = HubServer()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    url = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server.spaces[f"{ME}/shared"] = Space(private=True, files={})
    yield server
    server.shutdown()


@pytest.fixture
def data_set(server: HubServer) -> Space:
    return server.spaces[f"{ME}/shared"]


def test_a_data_set_keeps_a_copy_that_outlives_the_disk(data_set: Space, tmp_path: Path) -> None:
    first = SharedResults(tmp_path / "first", repo=f"{ME}/shared")
    wave = Waveform(np.zeros(1600, np.float32), 16000, "a.wav")
    saved = first.save(result(), wave)
    first.push()
    names = ("about.json", "audio.flac", "result.json")
    assert sorted(data_set.files) == [f"results/{saved.id}/{name}" for name in names]
    second = SharedResults(tmp_path / "second", repo=f"{ME}/shared")
    opened = second.open(saved.id)
    assert opened.result == result()
    assert opened.audio is not None
    second.delete(saved.id, saved.key)
    assert not data_set.files
    with pytest.raises(HubError, match="no shared result"):
        SharedResults(tmp_path / "third", repo=f"{ME}/shared").open(saved.id)


def test_a_copy_that_cannot_be_removed_yet_hinders_nobody_and_goes_later(
    server: HubServer, data_set: Space, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    shared = SharedResults(tmp_path / "shared", days=2, repo=f"{ME}/shared", now=clock)
    old = shared.save(result())
    shared.push()
    clock.at += 3 * DAY
    server.fail["commit"] = (500, "not now")
    shared.save(result("of somebody else"))
    assert "not yet from the data set" in caplog.text
    server.fail.clear()
    shared.keep_removing(every=0.1)
    until = time.monotonic() + 20
    while any(old.id in name for name in data_set.files) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(old.id in name for name in data_set.files)


def test_settings_are_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CANARY_HUB_SHARE_DIR", str(tmp_path))
    monkeypatch.setenv("CANARY_HUB_SHARE_MB", "3")
    monkeypatch.setenv("CANARY_HUB_SHARE_TOTAL_MB", "40")
    made = SharedResults.from_env()
    assert made is not None
    assert (made.folder, made.max_bytes, made.total_bytes, made.days) == (tmp_path, 3 << 20, 40 << 20, 30.0)
    monkeypatch.setenv("CANARY_HUB_SHARE_DAYS", "soon")
    with pytest.raises(HubError, match="CANARY_HUB_SHARE_DAYS"):
        SharedResults.from_env()
    monkeypatch.setenv("CANARY_HUB_SHARE_DAYS", "0")
    assert SharedResults.from_env() is None

"""Kills, full disks, a broken Hub and broken plugins: what is left is whole, and one sentence says what happened."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import ME, TOKEN, HubServer
from hub_server import Space as Repository

from canary_hub import Hub, Result, SegmentResult
from canary_hub.audio.waveform import Waveform
from canary_hub.errors import HubError

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
DIGITS = TESTS / "digits"
CLIPS = [DIGITS / f"{name}.flac" for name in ("one", "two", "three")]
SEED = 20261122

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and watches system calls")
Tally = Callable[[str, int], None]


class Kills:
    """Runs work in a child process that is killed at a chosen operation on the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, work: Callable[[], Any], point: int | None) -> bool:
        """Whether the child came to its point-th operation, and was killed there; None lets it end."""
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            signal.alarm(120)
            try:
                if point is not None:
                    sys.addaudithook(self._hook(point))
                work()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            return True
        assert os.WIFEXITED(status), f"the child ended by signal {os.WTERMSIG(status)}"
        assert os.WEXITSTATUS(status) == 0
        return False

    def points(self, work: Callable[[], Any], most: int) -> list[int]:
        """Up to `most` of the operations that `work` makes, drawn with a seed; the first and the last among them."""
        read, write = os.pipe()

        def counted() -> None:
            seen = 0

            def count(event: str, arguments: tuple[Any, ...]) -> None:
                nonlocal seen
                seen += self._changes(event, arguments)

            sys.addaudithook(count)
            work()
            os.write(write, str(seen).encode())

        self(counted, None)
        os.close(write)
        with os.fdopen(read) as pipe:
            total = int(pipe.read())
        assert total, "it writes nothing"
        return sorted({1, total, *random.Random(SEED).sample(range(1, total + 1), min(most, total))})

    def _hook(self, point: int) -> Callable[[str, tuple[Any, ...]], None]:
        left = point

        def kill(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if self._changes(event, arguments):
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

        return kill

    def _changes(self, event: str, arguments: tuple[Any, ...]) -> bool:
        """Whether an audit event is about to change something in the folder."""
        if event == "open":
            if not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                return False
        elif event not in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
            return False
        return any(str(self.folder) in os.fsdecode(one) for one in arguments if isinstance(one, (str, bytes, Path)))


@pytest.fixture
def kills(tmp_path: Path) -> Kills:
    return Kills(tmp_path)


def cli(*arguments: str | Path) -> None:
    """`canary-hub` in this process. Raises: SystemExit for an exit code other than 0."""
    from canary_hub.cli import main

    code = main([str(one) for one in ("--block-plugin", "train", *arguments)], standalone_mode=False)
    if code:
        raise SystemExit(code)


def contents(folder: Path) -> dict[str, bytes]:
    """What a reader finds: hidden files are nobody's business."""
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file() and path.name[0] != "."}


@pytest.fixture(scope="module")
def warm() -> None:
    """Everything imported, so that the children, which are forked, need not import it under their watch."""
    with Hub(TESTS / "none").load("nano") as stack:
        stack.transcribe(CLIPS[0])


@linux
@pytest.mark.usefixtures("warm")
def test_transcribe_leaves_whole_transcripts_only(kills: Kills, tmp_path: Path, tally: Tally, whole: bool) -> None:
    def work(out: str = "out") -> None:
        cli("transcribe", *CLIPS, "--stack", "nano", "--format", "json", "--output", tmp_path / out)

    def texts(out: str) -> dict[str, str]:
        return {name: json.loads(body)[0]["text"] for name, body in contents(tmp_path / out).items()}

    kills(lambda: work("reference"), None)
    wanted = texts("reference")
    assert sorted(wanted) == ["one.json", "three.json", "two.json"]
    for point in kills.points(work, 12 if whole else 0):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert kills(work, point)
        assert texts("out").items() <= wanted.items()
        kills(work, None)
        assert texts("out") == wanted
        tally("kills survived", 1)


@linux
@pytest.mark.usefixtures("warm")
def test_eval_goes_on_to_the_same_report(kills: Kills, tmp_path: Path, tally: Tally, whole: bool) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for clip in CLIPS:
        shutil.copy(clip, clips)
        (clips / f"{clip.stem}.txt").write_text(clip.stem)

    def work(out: str = "out") -> None:
        cli("eval", clips, "--stack", "nano", "--out", tmp_path / out)

    def report(out: str) -> Any:
        return [line.split(",")[2:4] for line in (tmp_path / out / "utterances.csv").read_text().splitlines()]

    kills(lambda: work("reference"), None)
    wanted = report("reference")
    for point in kills.points(work, 12 if whole else 0):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert kills(work, point)
        found = contents(tmp_path / "out") if (tmp_path / "out").exists() else {}
        if "report.json" in found:
            json.loads(found["report.json"])
        kills(work, None)
        assert report("out") == wanted
        assert json.loads(contents(tmp_path / "out")["report.json"])
        tally("kills survived", 1)


def tiny_training(folder: Path) -> Any:
    """A training of a few steps on noise; as the plugin's own tests make it."""
    import torch
    from canary_hub_train import recipes
    from canary_hub_train.digits import Recordings
    from canary_hub_train.text import draw
    from canary_hub_train.tokenizer import train_tokenizer
    from canary_hub_train.training import Job

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rows, parts, start = [], [], 0
    for words in (draw(rng, "digits", []) for _ in range(12)):
        part = (rng.standard_normal(4000 * len(words.split())) * 3000).astype(np.int16)
        timed = {"phones": [1], "ends": [len(part) / 16_000]}
        rows.append({"text": words, "voice": "noise", "start": start, "length": len(part), **timed})
        parts.append(part)
        start += len(part)
    folder.mkdir(parents=True)
    shard = folder / "digits-seen-00000.npy"
    np.save(shard, np.concatenate(parts))
    shard.with_suffix(".json").write_text(json.dumps(rows))
    recipe = recipes.small(recipes.DIGITS)
    recipe = replace(recipe, phases=tuple(replace(phase, steps=1) for phase in recipe.phases))
    train_tokenizer([row["text"] for row in rows], folder / "state" / "llm", recipe.sizes.vocabulary)
    takes = [[rng.standard_normal(5000).astype(np.float32) * 0.1] for _ in range(10)]
    return Job(recipe, folder / "state", [shard], Recordings({"ann": takes, "bob": takes}), [])


@linux
def test_a_killed_training_goes_on_to_the_same_weights(kills: Kills, tmp_path: Path, tally: Tally, whole: bool) -> None:
    import torch
    from canary_hub_train.state import StateFile
    from canary_hub_train.training import train

    job = tiny_training(tmp_path / "job")
    state = StateFile(job.state, job.recipe.name)

    def weights() -> dict[str, torch.Tensor]:
        found = state.read(torch.device("cpu"))
        assert found is not None
        return found["model"]

    kills(lambda: train(job), None)
    wanted = weights()
    state.path.unlink()
    for point in kills.points(lambda: train(job), 10)[0 if whole else -1 :]:
        state.path.unlink(missing_ok=True)
        assert kills(lambda: train(job), point)
        if state.path.exists():
            state.read(torch.device("cpu"))
        kills(lambda: train(job), None)
        found = weights()
        assert all(torch.equal(found[name], value) for name, value in wanted.items())
        tally("kills survived", 1)


@linux
def test_a_killed_export_is_no_checkpoint(kills: Kills, tmp_path: Path, tally: Tally, whole: bool) -> None:
    from canary_hub_train.export import export, load_exported
    from canary_hub_train.tokenizer import Coder, train_tokenizer
    from canary_hub_train.training import build

    job = tiny_training(tmp_path / "job")
    model, out, llm = build(job, Coder(job.state / "llm")), tmp_path / "out", tmp_path / "llm"

    def work() -> None:
        train_tokenizer(["one two three"] * 9, llm, job.recipe.sizes.vocabulary)
        export(model, job.state / "llm", out)

    for point in kills.points(work, 40 if whole else 3):
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(llm, ignore_errors=True)
        assert kills(work, point)
        if (llm / "tokenizer.json").exists():  # what `train nano` looks for
            Coder(llm)
            assert json.loads((llm / "tokenizer_config.json").read_text())
        if (out / "model.safetensors").exists():
            load_exported(out)
        kills(work, None)
        load_exported(out)
        tally("kills survived", 1)


@linux
def test_a_killed_rendering_is_no_speech(
    kills: Kills, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    from canary_hub_train import tts

    monkeypatch.setattr(tts, "render", lambda jobs: [tts.Clip(np.ones(100, np.int16), [0], [0.1]) for _ in jobs])
    path = tmp_path / "digits-seen-00000.npy"

    def work() -> None:
        tts._render_shard(tmp_path, "digits", 0, [], "seen", 3)

    for point in kills.points(work, 99):
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)
        assert kills(work, point)
        if path.exists():
            assert len(np.load(path)) == 300
            assert len(json.loads(path.with_suffix(".json").read_text())) == 3
        tally("kills survived", 1)


RESULT = Result("a.wav", 2.5, "nano", [SegmentResult(0, 2.5, "three", 31, 4, 0.9)], {"audio": 0.1})
WAVE = Waveform(np.zeros(1600, np.float32), 16000, "a.wav")


@linux
@pytest.mark.parametrize("what", ["save", "delete", "expire"])
def test_a_shared_result_is_whole_or_not_there(kills: Kills, tmp_path: Path, what: str, tally: Tally) -> None:
    from canary_hub.share.store import SharedResults

    folder = tmp_path / "shared"
    now = 2_000_000_000.0
    shared = SharedResults(folder, days=2, now=lambda: now)
    later = SharedResults(folder, days=2, now=lambda: now + 3 * 86400)
    saved = shared.save(RESULT, WAVE)
    work: dict[str, Callable[[], Any]] = {
        "save": lambda: shared.save(RESULT, WAVE),
        "delete": lambda: shared.delete(saved.id, saved.key),
        "expire": later.remove_expired,
    }
    for point in kills.points(work[what], 99):
        shutil.rmtree(folder, ignore_errors=True)
        saved = shared.save(RESULT, WAVE)
        assert kills(work[what], point)
        for found in (folder / "results").iterdir():
            opened = shared.open(found.name)
            assert opened.result == RESULT
            assert opened.audio is not None
        shared.save(RESULT)  # the next start works
        later.remove_expired()
        left = [path for path in folder.rglob("*") if path.is_file()]
        assert left == [], "a visitor's audio outlives its date"
        tally("kills survived", 1)


class KillingHub(HubServer):
    """Kills the process `victim` when it makes its `at`-th request."""

    victim, at, requests = 0, 0, 0

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return True

    def count(self) -> None:
        self.requests += 1
        if self.victim and self.requests == self.at:
            os.kill(self.victim, signal.SIGKILL)


@pytest.fixture
def hub_site(monkeypatch: pytest.MonkeyPatch) -> Iterator[KillingHub]:
    import hub_server

    real = hub_server.Answers.answer

    def answer(self: Any, body: bytes) -> None:
        self.server.count()
        real(self, body)

    monkeypatch.setattr(hub_server.Answers, "answer", answer)
    server = KillingHub()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    url = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub._commit_scheduler.atexit.register", lambda *_: None)  # it outlives the server
    yield server
    server.shutdown()


def killed_by(site: KillingHub, at: int, work: Callable[[], Any]) -> bool:
    """Run `work` in a child that dies of its at-th request; whether it did."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        signal.alarm(120)
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    site.victim, site.at, site.requests = child, at, 0
    _, status = os.waitpid(child, 0)
    site.victim = 0
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


@linux
def test_a_killed_push_changes_nothing_or_all(hub_site: KillingHub, tmp_path: Path, tally: Tally, whole: bool) -> None:
    from canary_hub.space import push, stage

    source = tmp_path / "source"
    source.mkdir()
    (source / "README.md").write_text("---\ntitle: t\nsdk: gradio\nsdk_version: 6.0.0\napp_file: app.py\n---\n")
    (source / "requirements.txt").write_text("gradio\n")
    staged = stage(source, tmp_path / "staged")

    def work() -> None:
        push(staged, "page")

    at, survived = 1, 0
    while killed_by(hub_site, at, work):
        space = hub_site.spaces.get(f"{ME}/page")
        fresh = space is None or "app.py" not in space.files
        assert fresh or set(staged.files) <= set(space.files), "half a commit"
        work()
        assert set(staged.files) <= set(hub_site.spaces[f"{ME}/page"].files)
        hub_site.spaces.clear()
        hub_site.blobs.clear()
        at, survived = at + (1 if whole else 2), survived + 1
        tally("kills survived", 1)
    assert survived >= 2


@linux
def test_a_killed_staging_is_no_space(kills: Kills, tmp_path: Path, tally: Tally, whole: bool) -> None:
    from canary_hub.space import stage

    out = tmp_path / "staged"

    def work() -> None:
        stage(ROOT / "spaces" / "cpu", out)

    files = None
    for point in kills.points(work, 40 if whole else 3):
        shutil.rmtree(out, ignore_errors=True)
        assert kills(work, point)
        left = {str(path.relative_to(out)) for path in out.rglob("*")}
        kills(work, None) if not left else None
        whole_space = {str(path.relative_to(out)) for path in out.rglob("*")}
        files = files or whole_space
        assert left in (set(), files)
        assert whole_space == files
        tally("kills survived", 1)


@linux
def test_a_killed_fetch_of_a_shared_result_is_not_taken_for_it(
    hub_site: KillingHub, tmp_path: Path, tally: Tally
) -> None:
    from canary_hub.share.store import SharedResults

    repo = f"{ME}/shared"
    hub_site.spaces[repo] = Repository(private=True, files={})
    first = SharedResults(tmp_path / "first", repo=repo)
    saved = first.save(RESULT, WAVE)
    first.push()
    at = 1
    while killed_by(hub_site, at, lambda: SharedResults(tmp_path / "second", repo=repo).open(saved.id)):
        opened = SharedResults(tmp_path / "second", repo=repo).open(saved.id)
        assert opened.result == RESULT
        assert opened.audio is not None
        shutil.rmtree(tmp_path / "second")
        at += 1
        tally("kills survived", 1)
    assert at > 3


def test_what_expired_while_no_page_ran_goes_from_the_data_set(hub_site: KillingHub, tmp_path: Path) -> None:
    from canary_hub.share.store import SharedResults

    repo, now = f"{ME}/shared", 2_000_000_000.0
    hub_site.spaces[repo] = Repository(private=True, files={})
    first = SharedResults(tmp_path / "first", repo=repo, days=2, now=lambda: now)
    first.save(RESULT, WAVE)
    first.push()
    assert hub_site.spaces[repo].files
    second = SharedResults(tmp_path / "second", repo=repo, days=2, now=lambda: now + 3 * 86400)
    second._remove_expired_copies()
    assert not hub_site.spaces[repo].files


def canary_hub(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "canary_hub.cli", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=200)


def says(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One clear message on stderr, and an exit code."""
    assert done.returncode not in (0, None), done.stdout
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.usefixtures("warm")
def test_what_the_system_refuses_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally) -> None:
    """No room, read-only folders, no home and no /tmp; in this process, where that costs no start."""
    from click.testing import CliRunner

    from canary_hub.cli import main

    def run(*arguments: str | Path) -> tuple[int, str]:
        done = CliRunner().invoke(main, [*map(str, arguments)])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        tally("faults survived", 1)
        return done.exit_code, done.output

    nowhere = "/sys/nowhere" if sys.platform.startswith("linux") else str(tmp_path / "file" / "nowhere")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", nowhere)
    monkeypatch.delenv("HF_HOME", raising=False)
    assert run("plugins")[0] == 0
    code, said = run("transcribe", CLIPS[0], "--stack", "nano")
    assert (code, "one" in said) == (0, True), said
    code, said = run("transcribe", CLIPS[0], "--output", nowhere)
    assert (code, nowhere in said) == (1, True), said
    code, said = run("eval", tmp_path / "clips.jsonl", "--out", nowhere)
    assert code == 1
    code, said = run("new-plugin", "mine", "--stage", "encoder", "--out", nowhere)
    assert (code, "cannot be written" in said) == (1, True), said
    code, said = run("space", "build", ROOT / "spaces" / "cpu", "--out", f"{nowhere}/space")
    assert (code, "cannot be staged" in said) == (1, True), said
    monkeypatch.setattr("tempfile.tempdir", None)
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, nowhere)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [nowhere])
    code, said = run("space", "push", ROOT / "spaces" / "cpu", "--repo", "ann/page", "--dry-run")
    assert (code, "temporary directory" in said) == (1, True), said
    assert run("transcribe", CLIPS[0], "--stack", "nano")[0] == 0


@linux
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, tally: Tally) -> None:
    from canary_hub.atomic import write_text
    from canary_hub.share.store import SharedResults

    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        (small / "report.json").write_text("old")
        with pytest.raises(OSError, match="No space"):
            write_text(small / "report.json", "new" * 100_000)
        assert contents(small) == {"report.json": b"old"}
        noise = np.random.default_rng(0).uniform(-1, 1, 160_000).astype(np.float32)
        shared = SharedResults(small / "shared")
        with pytest.raises(HubError, match="cannot be kept"):
            shared.save(RESULT, Waveform(noise, 16000, "a.wav"))
        assert list((small / "shared" / "results").iterdir()) == []
        tally("faults survived", 2)
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_port_that_is_taken_is_said(tally: Tally) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        says(canary_hub("serve", "--port", str(taken.getsockname()[1])), "is taken")
    tally("faults survived", 1)


BROKEN = """
import time
from canary_hub.hookspecs import hookimpl
from canary_hub.specs import ComponentSpec, Contract, Port, Stage

@hookimpl
def canary_components():
    ports = Contract((Port("features", dim=128),), (Port("hidden", dim=144, rate_hz=12.5),))
    for kind in KINDS:
        yield ComponentSpec(Stage.ENCODER, f"broken/{kind}", f"{__name__}:build_{kind}", ports)

KINDS = ("load", "forward", "leave", "shape", "width", "lengths", "nan", "none", "text", "late", "late_load")

def build_load(build):
    raise RuntimeError("cannot be built")

def build_late_load(build):
    time.sleep(4)

def build_(kind):
    def build(build):
        return lambda features, lengths: run(kind, features, lengths)
    return build

def run(kind, features, lengths):
    import torch
    rows = len(features)
    hidden = torch.zeros(rows, 9, 144)
    if kind == "forward":
        raise ValueError("the dog ate it")
    if kind == "leave":
        raise SystemExit("bye")
    if kind == "shape":
        return hidden[0], lengths
    if kind == "width":
        return hidden[:, :, :7], torch.full((rows,), 9)
    if kind == "lengths":
        return hidden, torch.full((rows,), 10)
    if kind == "nan":
        return hidden * float("nan"), torch.full((rows,), 9)
    if kind == "text":
        return "hidden", lengths
    if kind == "late":
        time.sleep(4)
    return None

for kind in KINDS:
    globals().setdefault(f"build_{kind}", build_(kind))
"""

FAULTS = {
    "load": "broken/load failed while loading: RuntimeError: cannot be built",
    "forward": "broken/forward failed while running: ValueError: the dog ate it",
    "leave": "broken/leave failed while running: SystemExit: bye",
    "shape": "broken/shape returned shape",
    "width": "broken/width returned shape [1, 9, 7] instead of [1, ..., 144]",
    "lengths": "broken/lengths returned lengths [10]",
    "nan": "broken/nan returned values that are not numbers",
    "none": "broken/none returned no pair of tensors",
    "text": "broken/text returned no pair of tensors",
    "late": "nano encoder=broken/late showed nothing new for 1 s and was given up",
    "late_load": "nano encoder=broken/late_load showed nothing new for 1 s and was given up",
}


@pytest.fixture
def broken_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    (tmp_path / "broken.py").write_text(BROKEN)
    monkeypatch.setenv("CANARY_HUB_STEP_SECONDS", "1")
    monkeypatch.setenv("CANARY_HUB_CACHE", str(tmp_path / "cache"))
    return Hub(tmp_path)


@pytest.mark.usefixtures("warm")
def test_every_face_names_the_component_and_goes_on(
    broken_hub: Hub, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    from canary_hub.compare import FailedLane, compare
    from canary_hub.lanes import Lane, parse_lane
    from canary_hub.specs import Stage
    from canary_hub.ui.widgets.runs import transcribe

    broken_hub.load("nano").transcribe(CLIPS[0])  # a slow machine's first run is not to be given up
    for kind, words in FAULTS.items():
        monkeypatch.setenv("CANARY_HUB_STEP_SECONDS", "1" if kind.startswith("late") else "60")
        lane = Lane("nano", {Stage.ENCODER: f"broken/{kind}"})
        *_, last = transcribe(broken_hub, lane, str(CLIPS[0]))  # the page, and what the APIs answer
        assert last.state == "failed"
        assert words in last.message, last.message
        assert "Traceback" not in last.message + last.hint
        if kind.startswith("late"):
            *_, again = transcribe(broken_hub, lane, str(CLIPS[0]))
            assert f"nano encoder=broken/{kind} is still busy with a run that was given up" in again.message
        monkeypatch.setenv("CANARY_HUB_STEP_SECONDS", "60")
        *_, good = transcribe(broken_hub, Lane("nano"), str(CLIPS[0]))
        assert good.text == "one"
        tally("plugin faults survived", 1)
    lanes = [parse_lane("nano"), parse_lane("nano encoder=broken/forward")]
    *_, comparison = compare(broken_hub, lanes, CLIPS[0])
    failed = comparison.lanes[1]
    assert isinstance(failed, FailedLane)
    assert "the dog ate it" in failed.message


@pytest.mark.usefixtures("warm")
def test_the_command_line_names_it_too(broken_hub: Hub, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from canary_hub.cli import main

    arguments = ["--plugins-dir", str(tmp_path), "transcribe", str(CLIPS[0]), "--encoder", "broken/forward"]
    done = CliRunner().invoke(main, arguments, env={"CANARY_HUB_STEP_SECONDS": ""})
    assert done.exit_code == 1
    assert "broken/forward failed while running: ValueError: the dog ate it." in done.output
    assert "Traceback" not in done.output


@linux
@pytest.mark.parametrize("way", ["import os; os._exit(3)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_plugin_that_ends_the_process_is_kept_out_by_name(tmp_path: Path, way: str, tally: Tally) -> None:
    (tmp_path / "bad.py").write_text(way)
    (tmp_path / "good.py").write_text("")
    assert canary_hub("plugins", "--plugins-dir", tmp_path).returncode != 0
    for blocked in (
        canary_hub("plugins", "--plugins-dir", tmp_path, "--block-plugin", "bad"),
        canary_hub("plugins", "--plugins-dir", tmp_path, CANARY_HUB_BLOCK_PLUGINS="bad"),
    ):
        assert blocked.returncode == 0, blocked.stderr
        assert "good" in blocked.stdout
    tally("plugin faults survived", 1)


@linux
def test_a_plugin_that_was_interrupted_at_its_import_is_used_at_the_next_start(tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "fine.py").write_text(
        "import os, signal\nif os.environ.get('STOP'): os.kill(os.getpid(), signal.SIGTERM)"
    )
    cache = str(tmp_path / "cache")
    stopped = canary_hub("plugins", "--plugins-dir", plugins, STOP="1", CANARY_HUB_CACHE=cache)
    assert stopped.returncode != 0
    after = canary_hub("plugins", "--plugins-dir", plugins, "--json", STOP="", CANARY_HUB_CACHE=cache)
    (record,) = [plugin for plugin in json.loads(after.stdout) if plugin["name"] == "fine"]
    assert not record["error"]


def test_a_plugin_that_leaves_at_import_costs_itself_alone(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("import sys; sys.exit('bye')")
    errors = {record.name: record.error for record in Hub(tmp_path).records}
    assert "SystemExit: bye" in errors["leaves"]
    assert errors["nano"] == ""


class Slow(BaseHTTPRequestHandler):
    """A Hub with one repository, `ann/model`; what else it does is in its server's `mood`."""

    server: Any
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        mood, path = self.server.mood, self.path.partition("?")[0]
        if isinstance(mood, int):
            return self.answer(b"{}", status=mood)
        if mood == "garbage":
            return self.answer(b"<html>Please log in to this hotel's network</html>")
        name = path.rpartition("/")[2]
        if "/tree/" in path:
            sizes = [{"type": "file", "path": n, "size": len(c), "oid": "0"} for n, c in MODEL.items()]
            return self.answer(json.dumps(sizes).encode())
        if path.startswith("/api/"):
            files = [{"rfilename": name} for name in MODEL]
            return self.answer(json.dumps({"id": "ann/model", "sha": "a" * 40, "siblings": files}).encode())
        self.answer(MODEL[name], cut=name.endswith("safetensors") and self.command == "GET")

    def answer(self, content: bytes, status: int = 200, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut and self.server.mood == "cut":
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if self.server.victim:
                time.sleep(0.3)
                os.kill(self.server.victim, signal.SIGKILL)
            self.close_connection = True
            return
        self.wfile.write(content)


MODEL = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 8000}


@pytest.fixture
def model_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads, server.mood, server.victim = True, "", 0
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("time.sleep", lambda seconds, wait=time.sleep: wait(min(seconds, 0.3)))
    yield server
    server.shutdown()


@linux
def test_a_killed_download_is_fetched_anew(model_site: Any, tally: Tally) -> None:
    from canary_hub.specs import WeightsRef
    from canary_hub.weights.checkpoint import Checkpoint

    ref = WeightsRef("ann/model", "a" * 40)
    child = os.fork()
    if not child:
        signal.alarm(60)
        while not model_site.victim:  # a copy; the parent's says whom to kill
            model_site.victim = os.getpid()
        try:
            Checkpoint(ref).folder()
        finally:
            os._exit(0)
    model_site.victim, model_site.mood = child, "cut"
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not Checkpoint(ref).available, "half a file is taken for a whole one"
    model_site.victim, model_site.mood = 0, ""
    assert (Checkpoint(ref).folder() / "model.safetensors").read_bytes() == MODEL["model.safetensors"]
    assert Checkpoint(ref).available
    tally("kills survived", 1)


@pytest.mark.parametrize("mood", ["cut", "garbage", 429, 500, 503])
def test_a_hub_that_fails_is_one_sentence(model_site: Any, mood: Any, tally: Tally) -> None:
    from canary_hub.specs import WeightsRef
    from canary_hub.weights.checkpoint import Checkpoint

    ref = WeightsRef("ann/model", "a" * 40)
    model_site.mood = mood
    with pytest.raises(HubError) as refused:
        Checkpoint(ref).folder()
    assert "ann/model" in refused.value.message
    assert refused.value.hint
    assert "\n" not in refused.value.message
    assert not Checkpoint(ref).available
    model_site.mood = ""
    assert (Checkpoint(ref).folder() / "model.safetensors").read_bytes() == MODEL["model.safetensors"]
    tally("faults survived", 1)

"""The loop: copy -> ctc -> bridge -> joint -> cool. Stop it anywhere; the same call goes on within a minute of it.

copy   the LLM learns English, and to write what a noisy audio slot holds; meanwhile the projector learns to read the
       ears' states by CTC, which costs a tenth of it and moves no embedding
ctc    the projector alone, the embeddings standing still
bridge the projector's last linear is solved for embeddings that the LLM knows
joint  everything together, without an end: more data and more time make it better
cool   the rate goes down to nothing; for weights to be shipped
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .batches import Batch, Codec, Speech, lay_out
from .bridge import solve
from .copying import Copying, slot_frames
from .lean import make_lean
from .measure import normaliser, read_shards, report
from .model import Sizes, build
from .shards import Shard, find_shards
from .state import Progress, StateFile

MASTERED = 2.2
"""Cross-entropy of copied text below which the slots become longer and noisier."""
ORDER = ("copy", "ctc", "bridge", "joint", "cool")


@dataclass(frozen=True)
class Recipe:
    """Numbers of the training. Lengths are in steps of `budget` positions; for a GPU see `for_gpu`."""

    sizes: Sizes = field(default_factory=Sizes)
    budget: int = 2048
    """Positions per step: about 12 clips of 8 s. Small, because a CPU gains nothing from large ones."""
    copy_steps: int = 2000
    ctc_steps: int = 1500
    joint_steps: int = 1_000_000
    cool_steps: int = 1500
    copy_rate: float = 1e-3
    ctc_rate: float = 1e-3
    joint_rate: float = 6e-4
    warmup: int = 150
    ctc_share: float = 0.3
    plain_share: float = 0.2
    """Of the copying phase's batches that are text alone."""
    wrong_given: float = 0.06
    """Share of the text's tokens that the model is shown wrongly, so that it trusts what it hears."""
    text_share: float = 0.1
    """Of the joint phase's batches that are copying and text alone: the language goes on being learnt."""
    average: float = 0.999
    measure_every: float = 900.0
    """Seconds between two measurements."""

    def steps(self, phase: str) -> int:
        """How long a phase is."""
        return {"bridge": 1}.get(phase) or int(getattr(self, f"{phase}_steps"))


SMALL = Recipe(
    Sizes(512, 64, 2, 2, 1, 32, 128, 384, 96), 1024, 20, 20, 20, 10, warmup=5, average=0.9, measure_every=1e9
)


def for_gpu(recipe: Recipe) -> Recipe:
    """The same training in steps eight times as large, with a rate that goes with them."""
    return replace(
        recipe,
        budget=recipe.budget * 16,
        copy_steps=recipe.copy_steps // 4,
        ctc_steps=max(recipe.ctc_steps // 2, 10),
        copy_rate=2e-3,
        ctc_rate=2e-3,
        joint_rate=1.5e-3,
        average=0.998,
        measure_every=120.0,
    )


@dataclass(frozen=True)
class Job:
    """One sitting.

    Attributes:
        sentences: what the copying phase is made of.
        dev: folder with the shards to measure by: kinds `dev` and `unseen`.
        until: time.monotonic() at which the sitting ends, in good order.
        finish: go to the last phase now.
    """

    recipe: Recipe
    folder: Path
    sentences: list[str]
    device: str = "cpu"
    until: float | None = None
    finish: bool = False
    say: Callable[[str], None] = print


class Training:
    """Model, average, optimizer and progress, and what each phase does with a step."""

    def __init__(self, job: Job) -> None:
        self.job, self.recipe, self.device = job, job.recipe, torch.device(job.device)
        self.codec = Codec(job.folder / "llm")
        self.file = StateFile(job.folder)
        self.model = build(job.recipe.sizes)
        if job.device == "cpu":
            make_lean(self.model.llm)
        self.at = Progress("copy")
        state = self.file.read(job.recipe.sizes)
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.at = state["progress"]
        self.model.to(self.device).train()
        self.average = state["average"] if state is not None else self._weights()
        self.average = {name: value.to(self.device) for name, value in self.average.items()}
        if job.finish and self.at.phase == "joint":
            self.at = replace(self.at, phase="cool", step=0, phase_seconds=0.0)
        self.optimizer = self._optimizer()
        if state is not None and state["optimizer"] is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        self.speech = Speech(job.folder / "speech", self.codec, budget=self.recipe.budget)
        self.measured = time.monotonic()

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.model.named_parameters()}

    def _optimizer(self) -> torch.optim.Optimizer:
        parameters = list(self.model.parameters())
        decayed = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.03}, {"params": plain, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), fused=True)

    def rate(self) -> float:
        """The learning rate of this step: up in `warmup` steps, then flat; copying and cooling go down."""
        phase, step = self.at.phase, self.at.step
        top = self.recipe.joint_rate if phase == "cool" else float(getattr(self.recipe, f"{phase}_rate"))
        left = 1 - step / self.recipe.steps(phase)
        if phase == "cool":
            return top * max(left, 0.01)
        if phase == "copy":
            top *= max(0.3, 0.5 * (1 + math.cos(math.pi * (1 - left))))
        return top * min(1.0, (step + 1) / self.recipe.warmup)

    def loss(self, drawn: Any) -> tuple[Tensor, dict[str, float]]:
        """The loss of what the phase drew, and its parts."""
        if isinstance(drawn, tuple):
            return self._copy_loss(*drawn)
        batch: Batch = drawn
        audio = batch.audio.to(self.device, non_blocking=True).float()
        frames = self.model.proj(audio)
        lengths = batch.lengths.to(self.device)
        texts, text_lengths = batch.texts.to(self.device), batch.text_lengths.to(self.device)
        batch = Batch(audio, lengths, texts, text_lengths)
        ctc = self.model.ctc_loss(frames, lengths, texts, text_lengths, still=self.at.phase == "ctc")
        if self.at.phase == "ctc":
            return ctc, {"ctc": float(ctc.detach())}
        laid = lay_out(self.model.table, frames, batch, self.codec, self._shown(texts))
        text = self.model.text_loss(self.model.hidden_states(laid.embeds), laid.targets)
        return text + self.recipe.ctc_share * ctc, {"text": float(text.detach()), "ctc": float(ctc.detach())}

    def _shown(self, texts: Tensor) -> Tensor:
        wrong = torch.rand(texts.shape, device=texts.device) < self.recipe.wrong_given
        return torch.where(wrong, torch.randint_like(texts, 256, self.recipe.sizes.vocabulary - 6), texts)

    def _copy_loss(
        self, batch: Batch, second: Tensor, share: Tensor, heard: Batch | None = None
    ) -> tuple[Tensor, dict[str, float]]:
        to = self.device
        if heard is not None:
            frames = self.model.proj(heard.audio.to(to).float())
            where = (heard.lengths.to(to), heard.texts.to(to), heard.text_lengths.to(to))
            ctc = self.model.ctc_loss(frames, *where, still=True)
            loss, parts = self._copy_loss(batch, second, share)
            return loss + ctc, parts | {"ctc": float(ctc.detach())}
        texts = batch.texts.to(to)
        if torch.rand(()) < self.recipe.plain_share:
            inside = torch.arange(texts.shape[1], device=to)[None] < batch.text_lengths.to(to)[:, None]
            hidden = self.model.hidden_states(self.model.table[texts])
            targets = torch.where(inside, texts, -100)[:, 1:]
            loss = self.model.text_loss(hidden[:, :-1], targets)
            return loss, {"plain": float(loss.detach())}
        frames = slot_frames(self.model.table, batch.audio.to(to), second.to(to), share.to(to))
        batch = Batch(frames, batch.lengths, texts, batch.text_lengths)
        laid = lay_out(self.model.table, frames, batch, self.codec, self._shown(texts))
        loss = self.model.text_loss(self.model.hidden_states(laid.embeds), laid.targets)
        return loss, {"copy": float(loss.detach())}

    def pace(self, parts: dict[str, float]) -> None:
        """Makes copying harder where it is mastered, easier where it is not: it is found at no fixed step."""
        loss = parts.get("copy")
        if loss is not None:
            change = 0.01 if loss < MASTERED else -0.005 if loss > 2 * MASTERED else 0.0
            self.at.hardness = min(1.0, max(0.0, self.at.hardness + change))

    def draws(self) -> Iterator[Any]:
        """Batches of the phase from its step on."""
        seed = 1000 * (ORDER.index(self.at.phase) + 1) + self.at.step
        copying = Copying(self.codec, self.job.sentences, self.model.blank, self.recipe.budget)
        texts = copying.batches(seed, self.recipe.sizes.vocabulary, hardness=lambda: self.at.hardness)
        if self.at.phase == "copy":
            return ((*drawn, heard) for drawn, heard in zip(texts, self.speech.pools(seed, longest=12.0), strict=False))
        if self.at.phase == "ctc":
            return self.speech.pools(seed, longest=12.0)
        return self._mixed(texts, self.speech.pools(seed))

    def _mixed(self, texts: Iterator[Any], speech: Iterator[Batch]) -> Iterator[Any]:
        while True:
            yield next(texts if float(torch.rand(())) < self.recipe.text_share else speech)

    def step(self, drawn: Any) -> dict[str, float]:
        """One step; the parts of its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        with torch.autocast(self.device.type, torch.bfloat16):
            loss, parts = self.loss(drawn)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        keep = min(self.recipe.average, (1 + self.at.step) / (10 + self.at.step))
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                self.average[name].lerp_(value, 1 - keep)
        self.pace(parts)
        return parts

    def save(self) -> None:
        """Writes the state."""
        self.file.save(self.model, self.average, self.optimizer, self.at)

    def measure(self) -> dict[str, Any]:
        """Word errors of the averaged weights on people and unseen machine speech, as a line of the curve."""
        kept = self._weights()
        self.model.load_state_dict(self.average, strict=False)
        normal = normaliser()
        row: dict[str, Any] = {"phase": self.at.phase, "step": self.at.step, "minutes": round(self.at.seconds / 60, 1)}
        for kind in ("dev", "unseen"):
            shards = [Shard(path) for path in find_shards(self.job.folder / "speech", kind)]
            if shards:
                row[kind] = report(read_shards(self.model, shards, self.codec, self.device.type), normal)
        self.model.load_state_dict(kept, strict=False)
        self.file.log(row)
        self.measured = time.monotonic()
        return row

    def run_bridge(self) -> None:
        """The phase without steps."""
        self.model.cpu()
        found = solve(self.model, self.speech.pools(7, longest=12.0))
        self.model.to(self.device)
        self.average = self._weights()
        self.job.say(f"bridge: R2 {found:.3f}")
        self.file.log({"phase": "bridge", "r2": round(found, 3)})


def ahead(draws: Iterator[Any], depth: int = 4) -> Iterator[Any]:
    """The same, drawn by a thread while the model works: reading states from disk and stacking them takes its time."""
    waiting: queue.Queue[Any] = queue.Queue(depth)
    over = threading.Event()

    def draw() -> None:
        try:
            for drawn in draws:
                while not over.is_set():
                    try:
                        waiting.put(drawn, timeout=1)
                        break
                    except queue.Full:
                        continue
                if over.is_set():
                    return
        except BaseException as error:  # shown where the batches are used
            waiting.put(error)

    threading.Thread(target=draw, daemon=True).start()
    try:
        while True:
            drawn = waiting.get()
            if isinstance(drawn, BaseException):
                raise drawn
            yield drawn
    finally:
        over.set()


def run(job: Job) -> bool:
    """Trains until the last phase is over (True) or the sitting is (False)."""
    training = Training(job)
    while True:
        phase = training.at.phase
        if phase == "bridge":
            training.run_bridge()
        elif not _phase(training):
            return False
        if phase == ORDER[-1]:
            training.measure()
            training.save()
            return True
        following = ORDER[ORDER.index(phase) + 1]
        training.at = replace(training.at, phase=following, step=0, phase_seconds=0.0)
        training.optimizer = training._optimizer()
        training.save()


def _phase(training: Training) -> bool:
    """Steps until the phase is over (True) or the sitting is (False)."""
    job, at = training.job, training.at
    sums: dict[str, list[float]] = {}
    started, first = time.monotonic(), at.step
    for drawn in ahead(training.draws()):
        if at.step >= job.recipe.steps(at.phase):
            return True
        begun = time.monotonic()
        if job.until is not None and begun > job.until:
            training.save()
            return False
        for name, value in training.step(drawn).items():
            sums.setdefault(name, []).append(value)
        spent = time.monotonic() - begun
        at.step, at.seconds, at.phase_seconds = at.step + 1, at.seconds + spent, at.phase_seconds + spent
        at.clips += len(drawn[0].lengths if isinstance(drawn, tuple) else drawn.lengths)
        if at.step % 50 == 0:
            means = {name: round(sum(values) / len(values), 3) for name, values in sums.items()}
            pace = (time.monotonic() - started) / (at.step - first)
            job.say(f"{at.phase} {at.step}: {means}, {pace:.2f} s a step, {at.clips} clips, hardness {at.hardness:.2f}")
            row = {"phase": at.phase, "step": at.step, "minutes": round(at.seconds / 60, 1), **means}
            training.file.log(row | ({"hardness": round(at.hardness, 2)} if at.phase == "copy" else {}))
            sums, started, first = {}, time.monotonic(), at.step
        if training.file.due:
            training.save()
        if time.monotonic() - training.measured > job.recipe.measure_every and at.phase == "joint":
            job.say(str(training.measure()))
    return True

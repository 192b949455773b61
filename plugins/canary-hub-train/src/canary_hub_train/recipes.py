"""The recipes: what is rendered, how large the model is, and the phases with their step counts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .data import Mix
from .model import Sizes


@dataclass(frozen=True)
class Phase:
    """One stretch of training with its own loss, data mix and learning rate (linear warm-up, then cosine)."""

    name: str
    """Its loss: "flat", "ctc", "copy", "bridge" (solved, not trained) or "joint"."""
    steps: int
    mix: Mix = field(default_factory=Mix)
    lr: float = 1e-3
    lr_end: float = 1e-3
    label: str = ""
    """Told apart from another phase of the same loss."""
    averaged: bool = False
    """It ends with the mean of the weights before and after it."""

    @property
    def key(self) -> str:
        """What the log calls it, and what its data is seeded by."""
        return self.label or self.name


@dataclass(frozen=True)
class Recipe:
    """A whole training."""

    name: str
    speech: dict[tuple[str, str], int]
    """Kind of text (`text.draw`), group of voices (`voices.draw_voice`) -> utterances to render."""
    phases: tuple[Phase, ...]
    sizes: Sizes = field(default_factory=Sizes)
    seed: int = 1

    @property
    def texts(self) -> dict[str, float]:
        """Kind of text -> its share of the utterances."""
        total = sum(self.speech.values())
        shares: dict[str, float] = {}
        for (kind, _), count in self.speech.items():
            shares[kind] = shares.get(kind, 0.0) + count / total
        return shares


_START = Mix(plain=True, human=0.3, empty=0.0, longest=1.7, seconds=40)
_HEAR = Mix(channel=0.4, speaker=0.4)
_FULL = Mix(human=0.5, channel=0.4, speaker=0.4)
_HARD = Mix(human=0.45, channel=0.5, human_channel=0.75, speaker=0.6, mixed=0.5)
_HARDER = Mix(human=0.4, channel=0.5, human_channel=0.8, speaker=0.9, mixed=0.6)
_PEOPLE = Mix(human=0.55, channel=0.4, human_channel=0.6, speaker=0.8, mixed=0.4)

DIGITS = Recipe(
    "digits",
    {("digits", "seen"): 10_000, ("everyday", "seen"): 10_000},
    (
        Phase("flat", 250, _START, 1e-3, 1e-3),
        Phase("ctc", 1000, _HEAR, 2e-3, 7e-4),
        Phase("copy", 500, lr=2e-3, lr_end=5e-4),
        Phase("bridge", 1, _FULL),
        Phase("joint", 1500, _FULL, 1e-3, 0.0),
        # A second descent from a restarted rate, on harder speech: it gains what the first had no time for.
        Phase("joint", 1400, _HARD, 1e-3, 0.0, label="again"),
        Phase("joint", 450, _HARDER, 7e-4, 0.0, label="last"),
        Phase("joint", 800, _PEOPLE, 8e-4, 0.0, label="people"),
    ),
)

_OPEN = Mix(
    human=0.15,
    mixed=0.4,
    empty=0.04,
    channel=0.35,
    human_channel=0.6,
    speaker=0.45,
    espeak=0.35,
    longest=8.0,
    seconds=50,
)
_AGAIN = replace(_OPEN, human=0.18, empty=0.06, espeak=0.25, speaker=0.55)
_FURTHER = replace(_AGAIN, espeak=0.12, human=0.15, channel=0.3, speaker=0.5)
OPEN = Recipe(
    "open",
    {
        ("digits", "seen"): 4_000,
        ("everyday", "seen"): 3_200,
        ("sentences", "seen"): 24_000,
        ("sentences", "espeak"): 50_000,
    },
    (
        Phase("flat", 300, replace(_START, human=0.2), 1e-3, 1e-3),
        Phase("ctc", 3_000, _OPEN, 2e-3, 1.2e-3),
        Phase("copy", 1_100, lr=2e-3, lr_end=5e-4),
        Phase("bridge", 1, _OPEN),
        Phase("joint", 1_300, _OPEN, 1.5e-3, 0.0),
        # Most of the time goes here: less of espeak, which is easy, and more perturbed speakers.
        Phase("joint", 5_000, _AGAIN, 1.5e-3, 0.0, label="again"),
        Phase("joint", 4_400, _FURTHER, 1.2e-3, 0.0, label="further"),
    ),
)


def with_everyone(recipe: Recipe) -> Recipe:
    """And a short last phase: the person who is held out of all others too, and more speech as it was said.

    The mean of the weights before and after it knows that person, and has lost nothing of the rest (Wortsman et al.,
    "Robust fine-tuning of zero-shot models", CVPR 2022; measured in the model card).
    """
    mix = replace(recipe.phases[-1].mix, everyone=True, channel=0.25, speaker=0.4)
    phase = Phase("joint", 400, mix, 5e-4, 0.0, label="everyone", averaged=True)
    return replace(recipe, phases=(*recipe.phases, phase))


def small(recipe: Recipe) -> Recipe:
    """The same steps in miniature: a model too small and trained too little to be of use."""
    sizes = Sizes(d_model=48, layers=2, heads=2, channels=8, hidden=32, llm_layers=1, llm_heads=2, llm_kv_heads=1)
    sizes = replace(sizes, llm_inner=64, vocabulary=384, lora_r=4, lora_alpha=4)
    phases = tuple(
        replace(phase, steps=min(phase.steps, 12), mix=replace(phase.mix, seconds=12)) for phase in recipe.phases
    )
    speech = dict.fromkeys(recipe.speech, 40)
    return replace(recipe, name=f"{recipe.name}-small", speech=speech, phases=phases, sizes=sizes)


def for_gpu(recipe: Recipe, times: int = 6) -> Recipe:
    """The same with batches `times` as large: a GPU is idle on a CPU's batches."""
    phases = tuple(replace(phase, mix=replace(phase.mix, seconds=phase.mix.seconds * times)) for phase in recipe.phases)
    return replace(recipe, phases=phases)


RECIPES = {recipe.name: recipe for recipe in (DIGITS, OPEN)}

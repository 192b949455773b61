"""The words of the registry as frozen data: stages, ports, contracts, components, stacks.

Nothing here imports torch: a plugin describes its components with these classes, and the
registry can be listed, checked and printed without loading anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict

API_VERSION = 2
"""Version of the hooks and specs that a plugin is written against."""

ID_PATTERN = r"^[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._-]*$"
"""A component id: "namespace/name", lower case."""

STACK_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
"""A stack's name, which stands in lanes, links and commands: lower case, no spaces."""


class Stage(str, Enum):
    """The five stages, in the order in which they run."""

    PREPROCESSOR = "preprocessor"
    ENCODER = "encoder"
    PROJECTOR = "projector"
    PROMPT_TEMPLATE = "prompt-template"
    LLM = "llm"

    def __str__(self) -> str:
        return self.value


class Options(BaseModel):
    """Base of every build or call options model: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Port:
    """One side of a component: what goes in, or what comes out.

    `None` means "anything" on the accepting side and "not stated" on the producing side.

    kind: what travels: "audio", "features", "hidden", "embeds", "prompt" or "text".
    dim: size of the feature axis (n_mels, d_model, hidden_size).
    rate_hz: vectors (or samples) a second.
    layout: axis order, such as "B F T", or a chat format for prompts.
    token: the placeholder token that a prompt holds.
    tag: training provenance. A tag mismatch is allowed and warned of.
    """

    kind: str
    dim: int | None = None
    rate_hz: float | None = None
    layout: str | None = None
    token: str | None = None
    tag: str | None = None


@dataclass(frozen=True)
class Contract:
    """What a component accepts and produces."""

    accepts: tuple[Port, ...] = ()
    produces: tuple[Port, ...] = ()


@dataclass(frozen=True)
class WeightsRef:
    """Where weights come from: a local folder, or a Hugging Face repository at a pinned revision.

    path: a local folder; when given nothing is looked up elsewhere.
    repo, revision: the repository and the commit, branch or tag to read.
    files: what to fetch beside the config: names or glob patterns.
    config: a copy of the repository's config.json that ships with the plugin, so that contracts
        can be checked before anything is downloaded.
    gib: download size, for messages.
    """

    repo: str | None = None
    revision: str | None = None
    path: Path | None = None
    files: tuple[str, ...] = ("*.safetensors", "*.safetensors.index.json")
    config: Path | None = None
    gib: float | None = None

    def __post_init__(self) -> None:
        if not self.repo and not self.path:
            raise ValueError("a WeightsRef needs a repo or a path")

    @property
    def name(self) -> str:
        """A short name for messages and tags: "org/model@rev" or the folder's name."""
        if self.path is not None:
            return self.path.name
        return f"{self.repo}@{self.revision[:8]}" if self.revision else str(self.repo)


ContractFrom = Callable[..., Contract]
"""Called with a `stages.Build`: a contract whose sizes depend on options or weights. Only configs may be read, no
weights, and nothing that loads torch."""


@dataclass(frozen=True)
class ComponentSpec:
    """One implementation of a stage, as data.

    stage, id: which stage it implements, and its name "namespace/name".
    factory: "package.module:callable", imported on first use and called with a
        `stages.Build`; returns an object that follows the stage's protocol.
    contract: a fixed `Contract`; or, where sizes depend on options or weights, a function of the same `Build`, or its
        name "package.module:callable" when its module is better imported on first use.
    weights: the roles of the weights it reads, each with a default; None means that the
        stack has to name them.
    build_options: what changes the built object, and so is part of its cache key.
    call_options: what may differ per request.
    requires, install: import names that must be present, and the command that installs them.
    chat: (LLM backends) whether it can also answer text prompts without audio.
    family: the `models.families.family.Family` whose checkpoint it reads, where it is part of one; explore finds the
        tensors by it. (Any object by its type, because this file knows no other.)
    """

    stage: Stage
    id: str
    factory: str
    contract: Contract | str | ContractFrom
    title: str = ""
    weights: Mapping[str, WeightsRef | None] = field(default_factory=lambda: MappingProxyType({}))
    build_options: type[Options] = Options
    call_options: type[Options] = Options
    requires: tuple[str, ...] = ()
    install: str = ""
    chat: bool = False
    family: object | None = None


ENERGY = "canary/energy"
"""The segmenter of every stack that names no other: cuts where it is quietest."""


@dataclass(frozen=True)
class SegmenterSpec:
    """One way to find the pauses at which long audio is cut, as data. It is no stage: every stack can use any.

    id: its name "namespace/name".
    factory: "package.module:callable", imported on first use and called without arguments; returns an object that
        follows `audio.pauses.Segmenter`.
    requires, install: import names that must be present, and the command that installs them.
    """

    id: str
    factory: str
    title: str = ""
    requires: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True)
class StackSpec:
    """Five components and their weights, under a name.

    components: the component id of every stage.
    weights: role -> where those weights come from.
    options: component options by stage: {"llm": {"max_new_tokens": 64}}.
    window_seconds: the longest audio the model was trained on; longer audio is cut at pauses.
    segmenter: the id of what finds those pauses.
    dtype: the dtype it is loaded in unless the caller says otherwise.
    note: one honest sentence for a picker: what it is for, what it costs.
    chat: whether its LLM was trained to answer, so that LLM mode makes sense.
    """

    name: str
    components: Mapping[Stage, str]
    weights: Mapping[str, WeightsRef] = field(default_factory=lambda: MappingProxyType({}))
    options: Mapping[Stage, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    window_seconds: float = 40.0
    dtype: str = "float32"
    title: str = ""
    note: str = ""
    chat: bool = True
    segmenter: str = ENERGY

    def __post_init__(self) -> None:
        missing = [stage.value for stage in Stage if stage not in self.components]
        if missing:
            raise ValueError(f"stack {self.name!r} names no component for {', '.join(missing)}")

    def override(
        self,
        components: Mapping[Stage, str] | None = None,
        options: Mapping[Stage, Mapping[str, Any]] | None = None,
        weights: Mapping[str, WeightsRef] | None = None,
        window_seconds: float | None = None,
        segmenter: str | None = None,
        dtype: str | None = None,
    ) -> StackSpec:
        """The same stack with some components, options, weights, its window, segmenter or dtype replaced.

        A swapped component starts from its own defaults: options that the stack set for the
        component it replaces are dropped.
        """
        swapped = {s for s, cid in (components or {}).items() if cid != self.components[s]}
        kept = {stage: dict(values) for stage, values in self.options.items() if stage not in swapped}
        for stage, values in (options or {}).items():
            kept[stage] = {**kept.get(stage, {}), **values}
        return replace(
            self,
            components={**self.components, **(components or {})},
            options=kept,
            weights={**self.weights, **(weights or {})},
            window_seconds=window_seconds or self.window_seconds,
            segmenter=segmenter or self.segmenter,
            dtype=dtype or self.dtype,
        )

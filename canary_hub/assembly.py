"""A stack resolved: which components it has, what each is built from, and whether they fit. Nothing is built yet."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from .contracts import Fit, check_stack
from .errors import HubError, PluginError, WeightsError
from .options import build_and_call
from .run.checks import blamed
from .specs import ComponentSpec, Contract, Options, SegmenterSpec, StackSpec, Stage, WeightsRef
from .stages import Build, WeightFiles
from .weights.checkpoint import Checkpoint, Resolver


@dataclass(frozen=True, eq=False)
class Assembly:
    """A stack with everything resolved once that checking, showing and loading it needs; made by `Hub.assemble`.

    spec: the stack as asked for.
    parts: the component specs.
    builds: what each component is built from. One checkpoint object stands for each `WeightsRef`, so that a file
        is looked up and read once. A component whose options are unusable has none; `problems` says why.
    calls: the call options, as `builds`.
    problems: what is wrong whatever the contracts say: missing packages, unusable options.
    """

    spec: StackSpec
    parts: Mapping[Stage, ComponentSpec]
    builds: Mapping[Stage, Build]
    calls: Mapping[Stage, Options]
    problems: tuple[str, ...] = ()

    @cached_property
    def contracts(self) -> Mapping[Stage, Contract]:
        """What each component accepts and produces; a component whose contract cannot be told has none.

        Raises: WeightsError when a config cannot be read: without it nothing can be compared.
        """
        return self._compared[0]

    @cached_property
    def fit(self) -> Fit:
        """Whether the five fit: every problem at once, before any weight is read. Raises: see `contracts`."""
        return self._compared[1]

    @cached_property
    def _compared(self) -> tuple[Mapping[Stage, Contract], Fit]:
        contracts: dict[Stage, Contract] = {}
        problems = list(self.problems)
        for stage, build in self.builds.items():
            try:
                contracts[stage] = contract_of(self.parts[stage], build)
            except WeightsError:
                raise
            except HubError as error:
                problems.append(f"{self.parts[stage].id}: {error.message}")
        fit = check_stack(contracts, self.spec.components)
        return contracts, Fit((*problems, *fit.problems), fit.warnings)

    @property
    def checkpoints(self) -> tuple[WeightFiles, ...]:
        """The distinct checkpoints that loading the stack reads."""
        every = (checkpoint for build in self.builds.values() for checkpoint in build.weights.values())
        return tuple({checkpoint.ref: checkpoint for checkpoint in every}.values())

    @property
    def missing(self) -> tuple[WeightsRef, ...]:
        """What loading the stack would download at this moment."""
        return tuple(checkpoint.ref for checkpoint in self.checkpoints if not checkpoint.available)

    def at(self, dtype: str, device: str) -> Assembly:
        """The same, to be built in that dtype on that device."""
        return replace(
            self, builds={stage: replace(build, dtype=dtype, device=device) for stage, build in self.builds.items()}
        )


def assemble(
    spec: StackSpec,
    parts: Mapping[Stage, ComponentSpec],
    segmenter: SegmenterSpec,
    resolvers: Iterable[Resolver],
) -> Assembly:
    """Resolve a stack's options and weights. Nothing is read or downloaded yet.

    Raises: WeightsError when the stack does not say where some weights come from.
    """
    resolvers = tuple(resolvers)
    checkpoints: dict[WeightsRef, Checkpoint] = {}
    builds: dict[Stage, Build] = {}
    calls: dict[Stage, Options] = {}
    problems = _lacking(segmenter)
    for stage, part in parts.items():
        problems += _lacking(part)
        weights = {}
        for role, default in part.weights.items():
            ref = spec.weights.get(role, default)
            if ref is None:
                raise WeightsError(f"stack {spec.name!r} does not say where weights {role!r} come from.")
            weights[role] = checkpoints.setdefault(ref, Checkpoint(ref, resolvers))
        try:
            options, calls[stage] = build_and_call(part, spec.options.get(stage, {}))
        except HubError as error:
            problems.append(f"{part.id}: {error.message}")
            continue
        builds[stage] = Build(options, weights, spec.dtype)
    return Assembly(spec, parts, builds, calls, tuple(problems))


def contract_of(part: ComponentSpec, build: Build) -> Contract:
    """What a component that is built so accepts and produces. Raises: WeightsError, PluginError."""
    if isinstance(part.contract, Contract):
        return part.contract
    function = imported(part, part.contract) if isinstance(part.contract, str) else part.contract
    with blamed(part.id, "telling its contract"):
        contract = function(build)
    if not isinstance(contract, Contract):
        raise PluginError(f"The contract function of {part.id} returned {contract!r}, not a Contract.")
    return contract


def imported(part: ComponentSpec | SegmenterSpec, target: str) -> Any:
    """The callable behind "package.module:callable". Raises: PluginError with the install hint."""
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise PluginError(
            f"{part.id} cannot be imported: {error}.", part.install and f"Install what it needs: {part.install}"
        ) from error
    except AttributeError as error:
        raise PluginError(f"{part.id} names {target!r}, but {module} has no {name}.") from error


def _lacking(part: ComponentSpec | SegmenterSpec) -> list[str]:
    """Which packages it lacks, as a problem of the stack; empty where it lacks none."""
    lacking = [name for name in part.requires if not _importable(name)]
    return [f"{part.id} needs {', '.join(lacking)}: {part.install or 'install it'}"] if lacking else []


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package that a dotted name begins with
        return False

"""The hub: plugins, registry and pool together; checks stacks and loads them."""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from . import options as option_values
from .audio.pauses import Segmenter
from .contracts import Fit, check_stack
from .errors import HubError, OptionError, PluginError, WeightsError, memory_for
from .options import build_and_call, check_dtype
from .pipeline import Stack
from .plugins import PluginRecord, discover
from .registry import Registry
from .run.checks import Patience, Worker, blamed
from .run.pool import Entry, Pool
from .settings import default_plugins_dir, names
from .specs import ComponentSpec, Contract, Options, SegmenterSpec, StackSpec, Stage, WeightsRef
from .stages import Build
from .weights.checkpoint import Checkpoint

MIN_WINDOW, MAX_WINDOW = 1.0, 3600.0
_SMALLER = "Choose a smaller stack or dtype=bfloat16, or close other programs."


class Hub:
    """Everything that is installed, and what is loaded of it.

    Args:
        plugins_dir: a folder of uninstalled plugins; by default `plugins/` of a checkout.
        allow, block: plugin names that may, or may not, be imported; as CANARY_HUB_ALLOW_PLUGINS and
            CANARY_HUB_BLOCK_PLUGINS say by default.
        max_bytes: how much the pool may keep loaded.
    """

    def __init__(
        self,
        plugins_dir: str | Path | None = None,
        *,
        allow: Iterable[str] | None = None,
        block: Iterable[str] | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self.plugins_dir = Path(plugins_dir) if plugins_dir is not None else default_plugins_dir()
        self.allow = list(allow) if allow is not None else names("CANARY_HUB_ALLOW_PLUGINS") or None
        self.block = list(block) if block is not None else names("CANARY_HUB_BLOCK_PLUGINS")
        self.plugins = discover(self.plugins_dir, self.allow, self.block)
        self.registry = Registry(self.plugins.records)
        self.pool = Pool(max_bytes)
        self.patience = Patience.from_env()
        self._segmenters: dict[str, Segmenter] = {}
        self._building_segmenter = threading.Lock()

    @property
    def records(self) -> list[PluginRecord]:
        """One record per plugin, broken ones with their error."""
        return self.plugins.records

    def stack(
        self,
        stack: str | StackSpec,
        *,
        components: Mapping[Stage, str] | None = None,
        options: Mapping[str, Any] | None = None,
        weights: Mapping[str, str | Path | WeightsRef] | None = None,
        window: float | None = None,
        segmenter: str | None = None,
    ) -> StackSpec:
        """A stack by name, with parts replaced.

        Args:
            components: ids by stage.
            options: {"max_new_tokens": 64} or {"llm.max_new_tokens": 64}.
            weights: role -> a local folder or a WeightsRef.
            window: seconds; audio is cut at pauses into pieces of at most that.
            segmenter: the id of what finds those pauses.

        Raises: UnknownNameError, OptionError.
        """
        if window is not None and not MIN_WINDOW <= window <= MAX_WINDOW:
            raise OptionError(f"A window of {window:g} s is of no use.", f"Choose {MIN_WINDOW:g} to {MAX_WINDOW:g} s.")
        spec = self.registry.stack(stack) if isinstance(stack, str) else stack
        refs = {
            role: where if isinstance(where, WeightsRef) else WeightsRef(path=Path(where))
            for role, where in (weights or {}).items()
        }
        spec = spec.override(components, weights=refs, window_seconds=window, segmenter=segmenter)
        specs = self.components(spec)
        self.registry.segmenter(spec.segmenter)
        if options:
            spec = spec.override(options=option_values.by_stage(options, specs))
        unknown = set(refs) - {role for part in specs.values() for role in part.weights}
        if unknown:
            roles = sorted({role for part in specs.values() for role in part.weights})
            raise WeightsError(
                f"No component of this stack reads weights named {', '.join(sorted(unknown))}.",
                f"Its weights are named {', '.join(roles)}.",
            )
        return spec

    def components(self, spec: StackSpec) -> dict[Stage, ComponentSpec]:
        """The stack's five component specs. Raises: UnknownNameError."""
        return {stage: self.registry.component(spec.components[stage], stage) for stage in Stage}

    def check(self, spec: StackSpec) -> Fit:
        """Whether the five fit: every problem at once, before any weight is read.

        Raises: UnknownNameError, OptionError; WeightsError when a config cannot be read.
        """
        return self._check(spec, "float32", "cpu")[0]

    def _check(self, spec: StackSpec, dtype: str, device: str) -> tuple[Fit, dict[Stage, Contract]]:
        contracts: dict[Stage, Contract] = {}
        problems = _missing(self.registry.segmenter(spec.segmenter))
        for stage, part in self.components(spec).items():
            problems += _missing(part)
            try:
                contracts[stage] = self._contract(part, self._build(spec, part, dtype, device)[0])
            except WeightsError:
                raise  # without the configs nothing can be compared
            except HubError as error:
                problems.append(f"{part.id}: {error.message}")
        fit = check_stack(contracts, spec.components)
        return Fit((*problems, *fit.problems), fit.warnings), contracts

    def segmenter(self, id: str) -> Segmenter:
        """What finds the pauses, built on first use and kept.

        Raises: UnknownNameError; PluginError, with the install hint when it cannot be imported.
        """
        spec = self.registry.segmenter(id)
        with self._building_segmenter, closing(Worker(self.patience)) as worker:
            if id not in self._segmenters:
                self._segmenters[id] = worker.do(id, "loading", lambda: _imported(spec, spec.factory)())
            return self._segmenters[id]

    def contract(self, part: ComponentSpec) -> Contract:
        """A component's contract with its default options and weights.

        Raises: WeightsError, PluginError.
        """
        build = part.build_options()
        weights = {
            role: Checkpoint(ref, self.plugins.resolvers()) for role, ref in part.weights.items() if ref is not None
        }
        return self._contract(part, Build(build, weights))

    def _contract(self, part: ComponentSpec, build: Build) -> Contract:
        if isinstance(part.contract, Contract):
            return part.contract
        with blamed(part.id, "telling its contract"):
            function = _imported(part, part.contract) if isinstance(part.contract, str) else part.contract
            contract = function(build)
        if not isinstance(contract, Contract):
            raise PluginError(f"The contract function of {part.id} returned {contract!r}, not a Contract.")
        return contract

    def _build(self, spec: StackSpec, part: ComponentSpec, dtype: str, device: str) -> tuple[Build, Options]:
        build_options, call_options = build_and_call(part, spec.options.get(part.stage, {}))
        weights = {}
        for role, default in part.weights.items():
            ref = spec.weights.get(role, default)
            if ref is None:
                raise WeightsError(f"stack {spec.name!r} does not say where weights {role!r} come from.")
            weights[role] = Checkpoint(ref, self.plugins.resolvers())
        return Build(build_options, weights, dtype, device), call_options

    def checkpoints(self, spec: StackSpec) -> list[Checkpoint]:
        """The distinct checkpoints that loading the stack reads."""
        found = {}
        for part in self.components(spec).values():
            for checkpoint in self._build(spec, part, "float32", "cpu")[0].weights.values():
                found[checkpoint.ref] = checkpoint
        return list(found.values())

    def load(
        self,
        stack: str | StackSpec,
        *,
        components: Mapping[Stage, str] | None = None,
        options: Mapping[str, Any] | None = None,
        weights: Mapping[str, str | Path | WeightsRef] | None = None,
        dtype: str | None = None,
        device: str | None = None,
    ) -> Stack:
        """Check a stack, then build its components or take them from the pool.

        Args:
            components, options, weights: see `stack`.
            dtype: "float32", "bfloat16" or "float16"; the stack's own by default.
            device: a torch device; a GPU by default where there is one.

        Raises: ContractError before any weight is read; WeightsError, OptionError, UnknownNameError.
        """
        spec = self.stack(stack, components=components, options=options, weights=weights)
        dtype = dtype or spec.dtype
        check_dtype(dtype)
        device = device or _default_device()
        fit, contracts = self._check(spec, dtype, device)
        fit.require(spec.name)
        segmenter = self.segmenter(spec.segmenter)
        audio = next((p for p in contracts[Stage.PREPROCESSOR].accepts if p.kind == "audio"), None)
        entries: dict[Stage, Entry] = {}
        calls: dict[Stage, Options] = {}
        try:
            for stage, part in self.components(spec).items():
                build, calls[stage] = self._build(spec, part, dtype, device)
                refs = tuple(sorted((role, c.ref) for role, c in build.weights.items()))
                key = (part.id, build.options.model_dump_json(), refs, dtype, device)
                with memory_for(f"load {part.id} of stack {spec.name}", _SMALLER):
                    entries[stage] = self.pool.acquire(key, partial(_make, part, build, self.patience))
        except BaseException:
            for entry in entries.values():
                self.pool.release(entry)
            raise
        rate = int(audio.rate_hz) if audio is not None and audio.rate_hz else 16000
        dims = {stage: _dim(contract) for stage, contract in contracts.items()}
        parts = self.components(spec)
        return Stack(spec, parts, self.pool, entries, calls, rate, segmenter, fit.warnings, dims, self.patience)


def _make(part: ComponentSpec, build: Build, patience: Patience) -> Any:
    """The built component. Raises: PluginError for what its code does wrong, WeightsError."""
    if not all(checkpoint.available for checkpoint in build.weights.values()):
        patience = Patience()  # nobody knows how long a download may take
    with closing(Worker(patience)) as worker:
        return worker.do(part.id, "loading", lambda: _imported(part, part.factory)(build))


def _dim(contract: Contract) -> int | None:
    """Size of the feature axis of what a component produces, where its contract states it."""
    return contract.produces[0].dim if len(contract.produces) == 1 else None


def _missing(part: ComponentSpec | SegmenterSpec) -> list[str]:
    """Which packages it lacks, as a problem of the stack; empty where it lacks none."""
    missing = [name for name in part.requires if not _importable(name)]
    return [f"{part.id} needs {', '.join(missing)}: {part.install or 'install it'}"] if missing else []


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package that a dotted name begins with
        return False


def _imported(part: ComponentSpec | SegmenterSpec, target: str) -> Any:
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


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

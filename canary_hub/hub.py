"""The hub: plugins, registry and pool together; checks stacks and loads them."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from . import options as option_values
from .contracts import Fit, check_stack
from .errors import HubError, OptionError, PluginError, WeightsError
from .options import build_and_call
from .pipeline import Stack
from .plugins import PluginRecord, default_plugins_dir, discover
from .pool import Entry, Pool
from .protocols import Build
from .registry import Registry
from .specs import ComponentSpec, Contract, Options, StackSpec, Stage, WeightsRef
from .weights import Checkpoint

DEFAULT_STACK = "nano"
MIN_WINDOW, MAX_WINDOW = 1.0, 3600.0
DTYPES = ("float32", "bfloat16", "float16")


def default_stack() -> str:
    """The stack to start with when none is asked for: CANARY_HUB_STACK, else nano (instant, offline)."""
    return os.environ.get("CANARY_HUB_STACK") or DEFAULT_STACK


class Hub:
    """Everything that is installed, and what is loaded of it.

    Args:
        plugins_dir: a folder of uninstalled plugins; by default `plugins/` of a checkout.
        allow, block: plugin names that may, or may not, be imported.
        max_bytes: how much the pool may keep loaded.
    """

    def __init__(
        self,
        plugins_dir: str | Path | None = None,
        *,
        allow: Iterable[str] | None = None,
        block: Iterable[str] = (),
        max_bytes: int | None = None,
    ) -> None:
        folder = Path(plugins_dir) if plugins_dir is not None else default_plugins_dir()
        self.plugins = discover(folder, allow, block)
        self.registry = Registry(self.plugins.records)
        self.pool = Pool(max_bytes)

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
    ) -> StackSpec:
        """A stack by name, with parts replaced.

        Args:
            components: ids by stage.
            options: {"max_new_tokens": 64} or {"llm.max_new_tokens": 64}.
            weights: role -> a local folder or a WeightsRef.
            window: seconds; audio is cut at pauses into pieces of at most that.

        Raises: UnknownNameError, OptionError.
        """
        if window is not None and not MIN_WINDOW <= window <= MAX_WINDOW:
            raise OptionError(f"A window of {window:g} s is of no use.", f"Choose {MIN_WINDOW:g} to {MAX_WINDOW:g} s.")
        spec = self.registry.stack(stack) if isinstance(stack, str) else stack
        refs = {
            role: where if isinstance(where, WeightsRef) else WeightsRef(path=Path(where))
            for role, where in (weights or {}).items()
        }
        spec = spec.override(components, weights=refs, window_seconds=window)
        specs = self.components(spec)
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
        problems: list[str] = []
        for stage, part in self.components(spec).items():
            missing = [name for name in part.requires if importlib.util.find_spec(name) is None]
            if missing:
                problems.append(f"{part.id} needs {', '.join(missing)}: {part.install or 'install it'}")
            try:
                contracts[stage] = self._contract(part, self._build(spec, part, dtype, device)[0])
            except WeightsError:
                raise  # without the configs nothing can be compared
            except HubError as error:
                problems.append(f"{part.id}: {error.message}")
        fit = check_stack(contracts, spec.components)
        return Fit((*problems, *fit.problems), fit.warnings), contracts

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
        contract = _imported(part, part.contract)(build)
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
        if dtype not in DTYPES:
            raise HubError(f"There is no dtype {dtype!r} here.", f"Choose one of {', '.join(DTYPES)}.")
        device = device or _default_device()
        fit, contracts = self._check(spec, dtype, device)
        fit.require(spec.name)
        audio = next((p for p in contracts[Stage.PREPROCESSOR].accepts if p.kind == "audio"), None)
        entries: dict[Stage, Entry] = {}
        calls: dict[Stage, Options] = {}
        try:
            for stage, part in self.components(spec).items():
                build, calls[stage] = self._build(spec, part, dtype, device)
                refs = tuple(sorted((role, c.ref) for role, c in build.weights.items()))
                key = (part.id, build.options.model_dump_json(), refs, dtype, device)
                entries[stage] = self.pool.acquire(key, partial(_make, part, build))
        except BaseException:
            for entry in entries.values():
                self.pool.release(entry)
            raise
        rate = int(audio.rate_hz) if audio is not None and audio.rate_hz else 16000
        return Stack(spec, self.components(spec), self.pool, entries, calls, rate, fit.warnings)


def _make(part: ComponentSpec, build: Build) -> Any:
    return _imported(part, part.factory)(build)


def _imported(part: ComponentSpec, target: str) -> Any:
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

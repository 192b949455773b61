"""The hub: plugins, registry and pool together; resolves stacks and loads them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from . import options as option_values
from .assembly import Assembly, assemble, contract_of, imported
from .audio.pauses import Segmenter
from .contracts import Fit
from .errors import OptionError, WeightsError, memory_for
from .lanes import Lane
from .options import check_dtype, validate
from .pipeline import Stack
from .plugins import PluginRecord, discover
from .registry import Registry
from .run.checks import blamed
from .run.pool import Entry, Pool
from .settings import default_plugins_dir, names
from .specs import ComponentSpec, Contract, StackSpec, Stage, WeightsRef
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
        self._segmenters: dict[str, Segmenter] = {}
        self._building_segmenter = threading.Lock()

    @property
    def records(self) -> list[PluginRecord]:
        """One record per plugin, broken ones with their error."""
        return self.plugins.records

    def stack(
        self,
        stack: str | Lane | StackSpec,
        *,
        components: Mapping[Stage, str] | None = None,
        options: Mapping[str, Any] | None = None,
        weights: Mapping[str, str | Path | WeightsRef] | None = None,
        window: float | None = None,
        segmenter: str | None = None,
        dtype: str | None = None,
    ) -> StackSpec:
        """A stack by name or as a lane says, with parts replaced.

        Args:
            components: ids by stage.
            options: {"max_new_tokens": 64} or {"llm.max_new_tokens": 64}.
            weights: role -> a local folder or a WeightsRef.
            window: seconds; audio is cut at pauses into pieces of at most that.
            segmenter: the id of what finds those pauses.
            dtype: "float32", "bfloat16" or "float16".

        Raises: UnknownNameError, OptionError, WeightsError.
        """
        if isinstance(stack, Lane):
            stack = self.stack(stack.stack, **stack.differences)
        if window is not None and not MIN_WINDOW <= window <= MAX_WINDOW:
            raise OptionError(f"A window of {window:g} s is of no use.", f"Choose {MIN_WINDOW:g} to {MAX_WINDOW:g} s.")
        check_dtype(dtype)
        spec = self.registry.stack(stack) if isinstance(stack, str) else stack
        refs = {
            role: where if isinstance(where, WeightsRef) else WeightsRef(path=Path(where))
            for role, where in (weights or {}).items()
        }
        spec = spec.override(components, weights=refs, window_seconds=window, segmenter=segmenter, dtype=dtype)
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

    def assemble(self, stack: str | Lane | StackSpec) -> Assembly:
        """A stack with its options, weights, contracts and fit resolved once, for all that follows. Reads nothing yet.

        Raises: UnknownNameError, OptionError; WeightsError when it does not say where some weights come from.
        """
        spec = self.stack(stack)
        segmenter = self.registry.segmenter(spec.segmenter)
        return assemble(spec, self.components(spec), segmenter, self.plugins.resolvers())

    def check(self, stack: str | Lane | StackSpec) -> Fit:
        """Whether the five fit: every problem at once, before any weight is read.

        Raises: UnknownNameError, OptionError; WeightsError when a config cannot be read.
        """
        return self.assemble(stack).fit

    def segmenter(self, id: str) -> Segmenter:
        """What finds the pauses, built on first use and kept.

        Raises: UnknownNameError; PluginError, with the install hint when it cannot be imported.
        """
        spec = self.registry.segmenter(id)
        with self._building_segmenter, blamed(id, "loading"):
            if id not in self._segmenters:
                self._segmenters[id] = imported(spec, spec.factory)()
            return self._segmenters[id]

    def contract(self, part: ComponentSpec) -> Contract:
        """A component's contract with its default options and weights.

        Raises: WeightsError, PluginError; OptionError where an option has no default.
        """
        resolvers = self.plugins.resolvers()
        weights = {role: Checkpoint(ref, resolvers) for role, ref in part.weights.items() if ref is not None}
        return contract_of(part, Build(validate(part.build_options, {}, part.id), weights))

    def load(
        self,
        stack: str | Lane | StackSpec | Assembly,
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
        if components or options or weights or not isinstance(stack, Assembly):
            spec = stack.spec if isinstance(stack, Assembly) else stack
            stack = self.assemble(self.stack(spec, components=components, options=options, weights=weights))
        check_dtype(dtype)
        spec = stack.spec
        assembly = stack.at(dtype or spec.dtype, device or _default_device())
        assembly.fit.require(spec.name)
        segmenter = self.segmenter(spec.segmenter)
        entries: dict[Stage, Entry] = {}
        try:
            for stage, part in assembly.parts.items():
                build = assembly.builds[stage]
                refs = tuple(sorted((role, c.ref) for role, c in build.weights.items()))
                key = (part.id, build.options.model_dump_json(), refs, build.dtype, build.device)
                with memory_for(f"load {part.id} of stack {spec.name}", _SMALLER):
                    entries[stage] = self.pool.acquire(key, partial(_make, part, build))
        except BaseException:
            for entry in entries.values():
                self.pool.release(entry)
            raise
        return Stack(assembly, entries, self.pool, segmenter)


def _make(part: ComponentSpec, build: Build) -> Any:
    """The built component. Raises: PluginError for what its code does wrong, WeightsError."""
    with blamed(part.id, "loading"):
        return imported(part, part.factory)(build)


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

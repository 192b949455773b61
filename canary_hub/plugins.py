"""Finding plugins and taking what they offer, each in isolation: a broken one costs itself alone.

Order: built-ins, installed entry points sorted by name, then the plugins folder. pluggy is used
with care for its edges: a failed `register()` leaves the plugin half-registered, one raising hook
aborts a call over all plugins, and a misspelt hook passes until `check_pending()`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from . import hookspecs
from .errors import PluginError
from .specs import (
    API_VERSION,
    ID_PATTERN,
    STACK_PATTERN,
    ComponentSpec,
    Contract,
    Options,
    SegmenterSpec,
    StackSpec,
    Stage,
    WeightsRef,
)

if TYPE_CHECKING:
    import click

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

GROUP = "canary_hub"
BUILT_IN = "built-in"
_MOVED = "The changelog lists the modules that moved."
BUILTINS = ("canary_hub.models.canary_qwen.plugin", "canary_hub.models.nano.plugin")


@dataclass
class PluginRecord:
    """What became of one plugin: what it added, or the error that kept it out."""

    name: str
    origin: str
    version: str = ""
    components: tuple[ComponentSpec, ...] = ()
    stacks: tuple[StackSpec, ...] = ()
    segmenters: tuple[SegmenterSpec, ...] = ()
    import_seconds: float = 0.0
    error: str = ""
    left_out: str = ""
    """What of a plugin in use is not, and why."""
    trace: str = ""
    module: Any = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether the plugin is in use."""
        return not self.error


@dataclass(frozen=True)
class _Candidate:
    name: str
    origin: str
    load: Callable[[], Any]
    version: str = ""


class PluginSet:
    """All plugins of one hub: their records, and the calls into those that are in use."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.records: list[PluginRecord] = []
        self._taken: dict[str, str] = {}

    def take(self, candidate: _Candidate) -> None:
        """Import, register, check and commit one plugin, or undo all of it and keep the error."""
        record = PluginRecord(candidate.name, candidate.origin, candidate.version)
        started = time.perf_counter()
        registering = False
        try:
            record.module = candidate.load()
            record.import_seconds = time.perf_counter() - started
            self._refuse_twice(record)
            registering = True
            self._register(record)
        except (Exception, SystemExit) as error:
            record.import_seconds = record.import_seconds or time.perf_counter() - started
            record.error = _describe(error)
            record.trace = traceback.format_exc()
            record.components, record.stacks, record.segmenters = (), (), ()
            if registering and self.manager.is_registered(record.module):
                self.manager.unregister(record.module)
        self.records.append(record)

    def _refuse_twice(self, record: PluginRecord) -> None:
        for other in self.records:
            if other.ok and (other.module is record.module or other.name == record.name):
                raise PluginError(
                    f"It, or its name, is already in use: {other.name!r} from {other.origin}.",
                    "Remove one of the two.",
                )

    def _register(self, record: PluginRecord) -> None:
        wanted = getattr(record.module, "CANARY_HUB_API", API_VERSION)
        if wanted != API_VERSION:
            raise PluginError(
                f"It was written for hook version {wanted}; this canary_hub has version {API_VERSION}.",
                f"Install a release of the plugin that matches. {_MOVED}",
            )
        if self.manager.register(record.module, name=record.name) is None:
            raise PluginError("It is blocked.")
        self._check_hook_names(record.module)
        for caller in self.manager.get_hookcallers(record.module) or []:
            if caller.spec is None:
                raise PluginError(
                    f"It implements {caller.name!r}, which is not a hook.",
                    f"The hooks are {', '.join(sorted(_hook_names()))}.",
                )
        record.components = tuple(self._call(record, "canary_components", ComponentSpec))
        record.stacks = tuple(self._call(record, "canary_stacks", StackSpec))
        record.segmenters = tuple(self._call(record, "canary_segmenters", SegmenterSpec))
        names = [spec.id for spec in record.components] + [f"stack {s.name}" for s in record.stacks]
        names += [f"segmenter {s.id}" for s in record.segmenters]
        for name in names:
            if names.count(name) > 1:
                raise PluginError(f"It registers {name!r} twice.")
            if name in self._taken:
                raise PluginError(f"It registers {name!r}, which {self._taken[name]} already has.", "Rename it.")
        for spec in record.components:
            _check_component(spec)
        for stack in record.stacks:
            if not re.fullmatch(STACK_PATTERN, stack.name):
                raise PluginError(
                    f"Stack name {stack.name!r} is not of lower-case letters, digits, '.', '_' and '-'.",
                    "Rename it; its title may be anything.",
                )
        for segmenter in record.segmenters:
            _check_names("Segmenter", segmenter.id, [segmenter.factory])
        self._taken.update(dict.fromkeys(names, f"plugin {record.name!r} ({record.origin})"))

    def _check_hook_names(self, module: Any) -> None:
        """A `canary_...` function without its marker would be ignored in silence."""
        for name, value in list(vars(module).items()) if isinstance(module, ModuleType) else []:
            if name.startswith("canary_") and callable(value) and getattr(value, "__module__", "") == module.__name__:
                if name not in _hook_names():
                    raise PluginError(
                        f"It has a function {name!r}, which is not a hook.",
                        f"The hooks are {', '.join(sorted(_hook_names()))}.",
                    )
                if not hasattr(value, f"{hookspecs.PROJECT}_impl"):
                    raise PluginError(
                        f"Its hook {name!r} has no marker.",
                        "Put `@hookimpl` above it (from canary_hub.hookspecs import hookimpl).",
                    )

    def _call(self, record: PluginRecord, hook: str, kind: type[Any]) -> Iterator[Any]:
        for values in self._caller(record, hook)():
            for value in values:
                if not isinstance(value, kind):
                    raise PluginError(f"{hook} returned {value!r}, which is no {kind.__name__}.")
                yield value

    def _caller(self, record: PluginRecord, hook: str) -> Any:
        others = [plugin for plugin in self.manager.get_plugins() if plugin is not record.module]
        return self.manager.subset_hook_caller(hook, others)

    def resolvers(self) -> tuple[Callable[..., Path | None], ...]:
        """One weights resolver per plugin, the last plugin's first; one that fails is passed over, and logged."""
        return tuple(partial(self._resolve, record) for record in reversed(self.records) if record.ok)

    def _resolve(self, record: PluginRecord, ref: WeightsRef) -> Path | None:
        try:
            found = self._caller(record, "canary_resolve_weights")(ref=ref)
            return None if found is None else Path(found)
        except Exception as error:
            logging.getLogger(__name__).warning("plugin %s cannot look for weights: %s", record.name, _describe(error))
            return None

    def add_commands(self, group: click.Group) -> None:
        """Let every plugin add its commands; one that fails is recorded and the rest go on."""
        for record in self.records:
            if record.ok:
                try:
                    self._caller(record, "canary_commands")(group=group)
                except Exception as error:
                    record.left_out = f"its commands: {_describe(error)}"
                    record.trace = traceback.format_exc()


def discover(
    plugins_dir: Path | None = None,
    allow: Iterable[str] | None = None,
    block: Iterable[str] = (),
) -> PluginSet:
    """Take every plugin that can be found.

    Args:
        plugins_dir: a folder with .py files or distribution folders, used uninstalled.
        allow: names (built-ins excepted) that may be imported; None means all.
        block: names that are not imported. Both act before import.
    """
    found = PluginSet()
    blocked = set(block)
    allowed = None if allow is None else set(allow)
    for candidate in _candidates(plugins_dir):
        builtin = candidate.origin == BUILT_IN
        if candidate.name in blocked or (not builtin and allowed is not None and candidate.name not in allowed):
            found.records.append(
                PluginRecord(candidate.name, candidate.origin, candidate.version, error="Not loaded: blocked by name.")
            )
            continue
        found.take(candidate)
    return found


def _candidates(plugins_dir: Path | None) -> Iterator[_Candidate]:
    from .version import __version__

    for name in BUILTINS:
        yield _Candidate(name.split(".")[-2], BUILT_IN, _importer(name), __version__)
    installed = set()
    entries = sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: entry.name)
    for entry in entries:
        dist = entry.dist
        distribution = _normal(dist.name) if dist else entry.name
        if (distribution, entry.name) in installed:
            continue
        installed.add((distribution, entry.name))
        yield _Candidate(entry.name, distribution, entry.load, dist.version if dist else "")
    if plugins_dir is not None:
        yield from _folder_candidates(plugins_dir, {distribution for distribution, _ in installed})


def _folder_candidates(folder: Path, installed: set[str]) -> Iterator[_Candidate]:
    if not folder.is_dir():
        yield _Candidate(folder.name, str(folder), _raiser(PluginError(f"There is no folder {str(folder)!r}.")))
        return
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py" and not path.name.startswith(("_", ".")):
            yield _Candidate(path.stem, str(path), _file_importer(path))
        elif (path / "pyproject.toml").is_file():
            try:
                project = tomllib.loads((path / "pyproject.toml").read_text("utf-8")).get("project", {})
                entries = project.get("entry-points", {}).get(GROUP, {})
                if _normal(project.get("name", path.name)) in installed:
                    continue
                for name, target in sorted(entries.items()):
                    yield _Candidate(name, str(path), _source_importer(path, target), project.get("version", ""))
            except (OSError, ValueError, AttributeError) as error:
                yield _Candidate(path.name, str(path), _raiser(error))


def _importer(target: str) -> Callable[[], Any]:
    return lambda: importlib.import_module(target)


def _source_importer(folder: Path, target: str) -> Callable[[], Any]:
    def load() -> Any:
        source = str(folder / "src" if (folder / "src").is_dir() else folder)
        if source not in sys.path:
            sys.path.append(source)
        return importlib.metadata.EntryPoint("plugin", target, GROUP).load()

    return load


def _file_importer(path: Path) -> Callable[[], Any]:
    def load() -> Any:
        name = f"canary_hub_plugin_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # factories are found by "name:callable" later
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    return load


def _raiser(error: Exception) -> Callable[[], Any]:
    def load() -> Any:
        raise error

    return load


def _check_component(spec: ComponentSpec) -> None:
    if not isinstance(spec.stage, Stage):
        raise PluginError(f"Component {spec.id!r} names no stage but {spec.stage!r}.")
    if not (isinstance(spec.contract, Contract | str) or callable(spec.contract)):
        raise PluginError(
            f"The contract of component {spec.id!r} is {spec.contract!r}: give a Contract, a function or its name."
        )
    targets = [spec.factory, spec.contract] if isinstance(spec.contract, str) else [spec.factory]
    _check_names("Component", spec.id, targets)
    for model in (spec.build_options, spec.call_options):
        if not (isinstance(model, type) and issubclass(model, Options)):
            raise PluginError(
                f"The options of component {spec.id!r} are {model!r}, no subclass of canary_hub.specs.Options.",
                "Derive the model from Options, which is frozen and refuses unknown names.",
            )


def _check_names(what: str, id: str, targets: Iterable[str]) -> None:
    if not re.fullmatch(ID_PATTERN, id):
        raise PluginError(f"{what} id {id!r} is not of the form namespace/name in lower case.")
    for target in targets:
        if not re.match(r"^[\w.]+:\w+$", target):
            raise PluginError(f"{target!r} of {what.lower()} {id!r} is not of the form package.module:callable.")


def _hook_names() -> set[str]:
    return {name for name in vars(hookspecs) if name.startswith("canary_")}


def _describe(error: BaseException) -> str:
    if isinstance(error, PluginError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("canary_hub."):
        return f"It imports {error.name}, which this canary_hub does not have.\n{_MOVED}"
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({Path(error.filename or '').name}, line {error.lineno})"
    return f"{type(error).__name__}: {error}"


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()

"""One component under test: how it is built, fed and measured, the same way for every stage with tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from ..assembly import contract_of, imported
from ..hub import Hub
from ..run.injection import inject
from ..specs import ComponentSpec, Contract, Port, Stage, WeightsRef
from ..stages import AudioSlot, Build, Text
from ..weights.checkpoint import Checkpoint

SIZES = {"audio": (0, 16000.0), "features": (128, 100.0), "hidden": (64, 12.5), "embeds": (64, 12.5)}
"""Kind -> dim and rate of the clips that a component is fed whose contract accepts any."""

STEPS = 3
"""Decoding steps that an LLM backend is watched for."""


@dataclass(frozen=True)
class UnderTest:
    """A component over its tiny weights.

    hub: built-ins, fakes and the plugin.
    """

    hub: Hub
    spec: ComponentSpec
    options: Mapping[str, object]
    weights: Mapping[str, WeightsRef]

    @property
    def given(self) -> Build:
        """What factory and contract function are called with: float32 on the CPU."""
        checkpoints = {role: Checkpoint(ref) for role, ref in self.weights.items()}
        return Build(self.spec.build_options(**self.options), checkpoints)

    @property
    def contract(self) -> Contract:
        """Fixed, or from options and configs. Raises: PluginError, WeightsError."""
        return contract_of(self.spec, self.given)

    def build(self) -> Any:
        """A new object by the factory. Raises: PluginError, and whatever the factory raises."""
        return imported(self.spec, self.spec.factory)(self.given)

    @property
    def takes(self) -> Port:
        """The port through which the audio comes in. (A prompt template has none.)"""
        kinds = [port for port in self.contract.accepts if port.kind in SIZES]
        assert len(kinds) == 1, f"{self.spec.id} accepts {len(kinds)} of {', '.join(SIZES)}; a stage takes one"
        return kinds[0]

    def clip(self, seconds: float, seed: int = 0) -> torch.Tensor:
        """Noise of that length as the component takes it: (S,) for a preprocessor, else (positions, dim)."""
        port = self.takes
        dim, rate = SIZES[port.kind]
        positions = round(seconds * (port.rate_hz or rate))
        shape = (positions,) if port.kind == "audio" else (positions, port.dim or dim)
        return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def run(self, component: Any, clips: Sequence[torch.Tensor], noise: bool = False) -> list[torch.Tensor]:
        """The clips as one padded batch; per clip the valid part of what comes out, (n, dim).

        From an LLM backend: the logits (steps, V) of its first steps. noise: the padding is longer than it has to
        be, and full of noise.
        """
        if self.spec.stage is Stage.LLM:
            return _generate(self.spec, component, clips, noise)
        lengths = torch.tensor([len(clip) for clip in clips])
        batch = pad_sequence(list(clips), batch_first=True)
        if noise:
            more = torch.zeros(len(clips), max(2, batch.shape[1] // 10), *batch.shape[2:])
            batch = torch.cat([batch, more], 1)
            outside = torch.arange(batch.shape[1]) >= lengths[:, None]
            batch[outside] = torch.randn(batch[outside].shape, generator=torch.Generator().manual_seed(99))
        turned = self.takes.kind == "features"
        out, valid = component(batch.transpose(1, 2) if turned else batch, lengths)
        rows = out.transpose(1, 2) if self.spec.stage is Stage.PREPROCESSOR else out
        return [row[:n] for row, n in zip(rows.cpu(), valid.tolist(), strict=True)]


def _generate(spec: ComponentSpec, llm: Any, clips: Sequence[torch.Tensor], noise: bool) -> list[torch.Tensor]:
    prompt = llm.tokenize([Text("the audio "), AudioSlot(), Text(" in words:")])
    injected = inject([prompt] * len(clips), llm.embed, list(clips), llm.placeholder_id)
    embeds, mask = injected.inputs_embeds.clone(), injected.attention_mask
    if noise:
        embeds = torch.nn.functional.pad(embeds, (0, 0, 5, 0))
        mask = torch.nn.functional.pad(mask, (5, 0))
        embeds[~mask] = torch.randn(embeds[~mask].shape, generator=torch.Generator().manual_seed(99)).to(embeds)
    rows: list[list[torch.Tensor]] = [[] for _ in clips]
    for step in islice(llm.generate(embeds, mask, spec.call_options()), STEPS):
        for row, id in zip(range(len(rows)), step.ids, strict=True):
            if id is not None:
                rows[row].append(step.logits[row].float().cpu())
    return [torch.stack(row) for row in rows]


def held_bytes(component: Any) -> int:
    """Bytes of all tensors and arrays that an object's attributes and closures reach, shared ones counted once."""
    import numpy as np

    found: dict[int, int] = {}
    seen: dict[int, Any] = {}
    todo = [component]
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        if isinstance(item, torch.Tensor):
            found[item.data_ptr()] = max(item.nbytes, found.get(item.data_ptr(), 0))
        elif isinstance(item, np.ndarray):
            found[item.ctypes.data] = item.nbytes
        elif isinstance(item, Mapping):
            todo += item.values()
        elif isinstance(item, list | tuple | set | frozenset):
            todo += item
        elif isinstance(item, FunctionType):
            todo += [cell.cell_contents for cell in item.__closure__ or ()]
        elif isinstance(item, MethodType):
            todo.append(item.__self__)
        elif not isinstance(item, type | ModuleType):
            todo += getattr(item, "__dict__", {}).values()
    return sum(found.values())

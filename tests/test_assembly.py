"""A stack is resolved once: contracts, options, checkpoints and fit, for the check, the notes and the load alike."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from canary_hub import Hub
from canary_hub.errors import ContractError, OptionError, UnknownNameError
from canary_hub.lanes import Lane, parse_lane
from canary_hub.models.canary_qwen.ports import log_mel
from canary_hub.specs import StackSpec, Stage


def test_a_stack_is_resolved_with_one_checkpoint_for_each_place(hub: Hub, tiny_spec: StackSpec) -> None:
    assembly = hub.assemble(tiny_spec)
    assert {stage: part.id for stage, part in assembly.parts.items()} == dict(tiny_spec.components)
    assert assembly.fit == hub.check(tiny_spec)
    assert assembly.contracts == {stage: hub.assemble(tiny_spec).contracts[stage] for stage in Stage}
    assert assembly.missing == ()
    in_use = [checkpoint for build in assembly.builds.values() for checkpoint in build.weights.values()]
    assert len(in_use) > len(assembly.checkpoints) == len({id(checkpoint) for checkpoint in in_use})


def test_a_load_reads_every_config_once(hub: Hub, tiny_spec: StackSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.pool.clear()
    reads: Counter[Path] = Counter()
    read_text = Path.read_text

    def counting(path: Path, *args: str, **kwargs: str) -> str:
        reads[path.resolve()] += path.name == "config.json"
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", counting)
    assembly = hub.assemble(tiny_spec)
    assert not +reads, "nothing is read before it is asked for"
    assembly.fit.require(tiny_spec.name)
    with hub.load(assembly, dtype="float16", device="cpu"):
        assert set((+reads).values()) == {1}
    reads.clear()
    with hub.load(tiny_spec, dtype="bfloat16", device="cpu"):
        assert set((+reads).values()) == {1}


def test_an_unusable_option_and_a_missing_package_are_problems_of_the_fit(hub: Hub, tiny_spec: StackSpec) -> None:
    assembly = hub.assemble(hub.stack(tiny_spec, options={"max_new_tokens": -1}))
    assert Stage.LLM not in assembly.builds
    assert ["max_new_tokens" in problem for problem in assembly.fit.problems] == [True]
    with pytest.raises(ContractError, match="max_new_tokens"):
        hub.load(assembly)
    with pytest.raises(UnknownNameError, match="nanoo"):
        hub.assemble("nanoo")


def test_a_lane_is_plain_data_that_the_hub_looks_up(hub: Hub) -> None:
    lane = parse_lane("nano llm=canary/qwen3-peft max_new_tokens=5 window=20 dtype=bfloat16")
    assert pickle.loads(pickle.dumps(lane)) == lane
    spec = hub.stack(lane)
    assert (spec.components[Stage.LLM], spec.window_seconds, spec.dtype) == ("canary/qwen3-peft", 20.0, "bfloat16")
    assert hub.stack(spec) == spec
    assert hub.assemble(lane).calls[Stage.LLM].model_dump()["max_new_tokens"] == 5
    with hub.load(lane, device="cpu") as stack:
        assert {build.dtype for build in stack.assembly.builds.values()} == {"bfloat16"}
    with pytest.raises(OptionError, match="float8"):
        hub.stack(replace(lane, dtype="float8"))
    assert str(Lane("nano", options={"adapter": True})) == "nano adapter=true"


def test_a_contract_may_be_a_function(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    part = hub.registry.component("canary/log-mel")
    given = replace(part, contract=log_mel)
    assert hub.contract(given) == hub.contract(part)

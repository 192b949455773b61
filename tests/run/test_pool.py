"""The pool: the same component once, counted, evicted by bytes and never while in use."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from canary_hub import Hub
from canary_hub.run.pool import Pool
from canary_hub.specs import StackSpec, Stage


def built(nbytes: int):
    return lambda: SimpleNamespace(nbytes=nbytes)


def test_stacks_share_what_they_have_in_common(hub: Hub, tiny_spec: StackSpec) -> None:
    merged = hub.load(tiny_spec, dtype="float32", device="cpu")
    live = hub.load(tiny_spec, components={Stage.LLM: "canary/qwen3-peft"}, dtype="float32", device="cpu")
    assert merged.component(Stage.ENCODER) is live.component(Stage.ENCODER)
    assert merged.component(Stage.LLM) is not live.component(Stage.LLM)
    other = hub.load(tiny_spec, dtype="bfloat16", device="cpu")
    assert other.component(Stage.ENCODER) is not live.component(Stage.ENCODER)
    quick = hub.load(tiny_spec, options={"max_new_tokens": 3}, dtype="float32", device="cpu")
    assert quick.component(Stage.LLM) is merged.component(Stage.LLM)  # call options are not in the key


def test_closing_a_stack_gives_its_components_back(hub: Hub, tiny_spec: StackSpec) -> None:
    with hub.load(tiny_spec, dtype="float32", device="cpu") as stack:
        entry = stack.entries[Stage.LLM]
        used = entry.users
    assert entry.users == used - 1
    stack.close()
    assert entry.users == used - 1


def test_evicts_the_longest_unused_and_never_one_in_use() -> None:
    pool = Pool(max_bytes=100)
    a = pool.acquire("a", built(60))
    b = pool.acquire("b", built(60))
    assert (len(pool), pool.nbytes) == (2, 120)  # both in use: over the budget, but kept
    pool.release(a)
    assert len(pool) == 1
    assert pool.acquire("b", built(1)) is b
    c = pool.acquire("c", built(30))
    pool.release(c)
    pool.release(b)
    pool.release(b)
    assert pool.acquire("b", built(1)) is b
    pool.acquire("d", built(50))
    assert pool.acquire("c", built(30)) is not c


def test_concurrent_first_requests_build_once() -> None:
    pool, count, entries = Pool(), [], []

    def slow() -> SimpleNamespace:
        count.append(1)
        time.sleep(0.1)
        return SimpleNamespace()

    workers = [threading.Thread(target=lambda: entries.append(pool.acquire("x", slow))) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(count) == 1
    assert len(set(map(id, entries))) == 1
    assert entries[0].users == 8


def test_a_failed_build_leaves_nothing_and_can_be_retried() -> None:
    pool = Pool()

    def fail() -> None:
        raise MemoryError

    for _ in range(2):
        with pytest.raises(MemoryError):
            pool.acquire("x", fail)
    assert len(pool) == 0
    assert pool.acquire("x", built(1)).users == 1

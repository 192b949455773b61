"""`qwen` as sections."""

from __future__ import annotations

from ..structure import Module, Qwen
from . import Chart, Section, Series, Table, count, percent, size


def sections(found: Qwen) -> list[Section]:
    """Figures, tree, parameters by part, KV cache."""
    return [_figures(found), _tree(found), _parts(found), _cache(found)]


def _figures(found: Qwen) -> Section:
    rows = (
        ("embedding table", f"Embedding({found.vocab_size}, {found.hidden_size})"),
        ("layers", str(found.layers)),
        ("query heads / key-value heads", f"{found.heads} / {found.kv_heads}"),
        ("size of a head", str(found.head_dim)),
        ("norms on queries and keys", "yes" if found.qk_norm else "no"),
        (
            "feed-forward",
            f"{found.hidden_size} -> {found.intermediate_size} -> {found.hidden_size}, {found.activation}",
        ),
        ("lm_head", "tied to the embeddings" if found.tied else "its own weights"),
        ("rotary base", "-" if found.rope_theta is None else f"{found.rope_theta:g}"),
        ("longest context", f"{found.max_positions} positions"),
        ("parameters", f"{found.parameters:,} ({count(found.parameters)})"),
    )
    have = "share" if found.heads > found.kv_heads else "have"
    sentence = (
        f"{found.architecture} has {found.layers} equal layers over vectors of {found.hidden_size} numbers; "
        f"{found.heads} query heads {have} {found.kv_heads} heads of keys and values."
    )
    return Section("The language model", sentence, (Table(("", found.stack), rows),))


def _tree(found: Qwen) -> Section:
    rows = tuple(
        (
            "  " * module.depth + _name(module),
            _described(module),
            count(module.parameters) if module.parameters else "",
            f"{module.copies}" if module.copies > 1 else "",
        )
        for module in found.modules
    )
    sentence = (
        f"Everything between the embeddings and the head is one block, built {found.layers} times: "
        "attention, then a feed-forward network, each behind a norm."
    )
    table = Table(("module", "kind", "parameters", "copies"), rows, right=("parameters", "copies"))
    return Section("Module tree", sentence, (table,))


def _name(module: Module) -> str:
    return module.path.rsplit(".", 1)[-1] or "the model"


def _described(module: Module) -> str:
    if module.tied_to:
        return f"{module.kind}, tied to {module.tied_to.rsplit('.', 1)[-1]}"
    if module.kind == "Linear":
        out, into = module.shape
        return f"Linear({into} -> {out})"
    return f"{module.kind}({', '.join(map(str, module.shape))})" if module.shape else module.kind


def _parts(found: Qwen) -> Section:
    rows = tuple((p.name, f"{p.parameters:,}", percent(p.parameters, found.parameters)) for p in found.parts)
    most = max(found.parts, key=lambda part: part.parameters)
    sentence = (
        f"The largest part is {most.name} with {percent(most.parameters, found.parameters)} of all parameters"
        + ("; the head costs nothing, for it reads the embeddings' table." if found.tied else ".")
    )
    chart = Chart(
        "parameters",
        f"Parameters of {found.stack}'s LLM by part",
        "bar",
        "",
        "parameters",
        (Series("parameters", tuple(p.name for p in found.parts), tuple(float(p.parameters) for p in found.parts)),),
    )
    total = ("together", f"{found.parameters:,}", "100 %")
    table = Table(("part", "parameters", "share"), (*rows, total), right=("parameters", "share"))
    return Section("Parameters by part", sentence, (table,), (chart,))


def _cache(found: Qwen) -> Section:
    cache = found.cache
    lengths = [n for n in (1, 100, 1000, 10_000) if n < found.max_positions] + [found.max_positions]
    rows = tuple((f"{n:,}", size(n * cache.bytes_per_token), size(n * cache.without_groups)) for n in lengths)
    ratio = cache.without_groups // cache.bytes_per_token
    sentence = (
        f"Every position of the prompt and of the answer keeps 2 x {found.layers} x {found.kv_heads} x "
        f"{found.head_dim} numbers, {size(cache.bytes_per_token)} in {cache.dtype}; "
        + (f"sharing heads makes that {ratio} x smaller." if ratio > 1 else "no heads are shared.")
    )
    x = tuple(float(n) for n in range(0, 4097, 256))
    chart = Chart(
        "kv-cache",
        f"KV cache of {found.stack}, {cache.dtype}, one row",
        "line",
        "positions",
        "MiB",
        (
            Series(f"{found.kv_heads} shared heads", x, tuple(n * cache.bytes_per_token / 2**20 for n in x)),
            Series(f"{found.heads} heads of their own", x, tuple(n * cache.without_groups / 2**20 for n in x)),
        ),
    )
    table = Table(
        ("positions", "KV cache", "without sharing"), rows, right=("positions", "KV cache", "without sharing")
    )
    return Section("KV cache", sentence, (table,), (chart,))

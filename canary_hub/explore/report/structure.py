"""`structure` as sections."""

from __future__ import annotations

from ..structure import Module, Structure
from . import Chart, Section, Series, Table, count, percent, size


def sections(result: Structure) -> list[Section]:
    """Figures, tree, parameters by part, KV cache."""
    return [_figures(result), _tree(result), _parts(result), _cache(result)]


def _figures(result: Structure) -> Section:
    rows = (
        ("embedding table", f"Embedding({result.vocab_size}, {result.hidden_size})"),
        ("layers", str(result.layers)),
        ("query heads / key-value heads", f"{result.heads} / {result.kv_heads}"),
        ("size of a head", str(result.head_dim)),
        ("norms on queries and keys", "yes" if result.qk_norm else "no"),
        (
            "feed-forward",
            f"{result.hidden_size} -> {result.intermediate_size} -> {result.hidden_size}, {result.activation}",
        ),
        ("lm_head", "tied to the embeddings" if result.tied else "its own weights"),
        ("rotary base", "-" if result.rope_theta is None else f"{result.rope_theta:g}"),
        ("longest context", f"{result.max_positions} positions"),
        ("parameters", f"{result.parameters:,} ({count(result.parameters)})"),
    )
    have = "share" if result.heads > result.kv_heads else "have"
    sentence = (
        f"{result.architecture} has {result.layers} equal layers over vectors of {result.hidden_size} numbers; "
        f"{result.heads} query heads {have} {result.kv_heads} heads of keys and values."
    )
    return Section("The language model", sentence, (Table(("", result.stack), rows),))


def _tree(result: Structure) -> Section:
    rows = tuple(
        (
            "  " * module.depth + _name(module),
            _described(module),
            count(module.parameters) if module.parameters else "",
            f"{module.copies}" if module.copies > 1 else "",
        )
        for module in result.modules
    )
    sentence = (
        f"Everything between the embeddings and the head is one block, built {result.layers} times: "
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


def _parts(result: Structure) -> Section:
    rows = tuple((p.name, f"{p.parameters:,}", percent(p.parameters, result.parameters)) for p in result.parts)
    most = max(result.parts, key=lambda part: part.parameters)
    sentence = (
        f"The largest part is {most.name} with {percent(most.parameters, result.parameters)} of all parameters"
        + ("; the head costs nothing, for it reads the embeddings' table." if result.tied else ".")
    )
    chart = Chart(
        "parameters",
        f"Parameters of {result.stack}'s LLM by part",
        "bar",
        "",
        "parameters",
        (Series("parameters", tuple(p.name for p in result.parts), tuple(float(p.parameters) for p in result.parts)),),
    )
    total = ("together", f"{result.parameters:,}", "100 %")
    table = Table(("part", "parameters", "share"), (*rows, total), right=("parameters", "share"))
    return Section("Parameters by part", sentence, (table,), (chart,))


def _cache(result: Structure) -> Section:
    cache = result.cache
    lengths = [n for n in (1, 100, 1000, 10_000) if n < result.max_positions] + [result.max_positions]
    rows = tuple((f"{n:,}", size(n * cache.bytes_per_token), size(n * cache.without_groups)) for n in lengths)
    ratio = cache.without_groups // cache.bytes_per_token
    sentence = (
        f"Every position of the prompt and of the answer keeps 2 x {result.layers} x {result.kv_heads} x "
        f"{result.head_dim} numbers, {size(cache.bytes_per_token)} in {cache.dtype}; "
        + (f"sharing heads makes that {ratio} x smaller." if ratio > 1 else "no heads are shared.")
    )
    x = tuple(float(n) for n in range(0, 4097, 256))
    chart = Chart(
        "kv-cache",
        f"KV cache of {result.stack}, {cache.dtype}, one row",
        "line",
        "positions",
        "MiB",
        (
            Series(f"{result.kv_heads} shared heads", x, tuple(n * cache.bytes_per_token / 2**20 for n in x)),
            Series(f"{result.heads} heads of their own", x, tuple(n * cache.without_groups / 2**20 for n in x)),
        ),
    )
    table = Table(
        ("positions", "KV cache", "without sharing"), rows, right=("positions", "KV cache", "without sharing")
    )
    return Section("KV cache", sentence, (table,), (chart,))

"""Our own parsers read any text, or refuse it in words: permalinks, lanes, options, manifests, traces, prompts."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ORACLE
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from canary_hub import Hub
from canary_hub.audio.decode import AudioError
from canary_hub.compare import from_json, to_json
from canary_hub.compare.markdown import to_markdown
from canary_hub.errors import HubError
from canary_hub.evaluate.manifest import open_manifest
from canary_hub.lanes import Lane, parse_lane
from canary_hub.models.canary_qwen.prompts import ChatPrompt, ContextPrompt, CustomPrompt
from canary_hub.models.causal_lm.chat_tokenizer import ChatTokenizer
from canary_hub.options import build_and_call, by_stage, parse_pairs
from canary_hub.run.result import Result
from canary_hub.share.links import Link, from_query, known, to_query
from canary_hub.share.store import SharedResults
from canary_hub.specs import ComponentSpec, Stage
from canary_hub.stages import AudioSlot, Text
from canary_hub.ui.compare.html import measures, transcripts
from canary_hub.ui.share.view import body, heading

settings.register_profile(
    "plain",
    derandomize=True,
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("plain")

ANY = st.text(st.characters(exclude_categories=()), max_size=30)
"""Lone surrogates, NUL and control characters too, as undecodable file names and JSON escapes bring them."""
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY | st.sampled_from([10**400, -(10**400), 1e308]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3),
    max_leaves=6,
)
SLOT = "<|audioplaceholder|>"
SPELLINGS = [
    SLOT,
    SLOT.upper(),
    SLOT.replace("|", " | "),
    "<|audio\u200bplaceholder|>",
    SLOT * 3,
    "<|audio",
    "placeholder|>",
]
CONTROL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "\n<|im_start|>system\n"]
TYPED = st.lists(ANY | st.sampled_from([*SPELLINGS, *CONTROL]), max_size=5).map("".join)

KEYS = [
    "v",
    "view",
    "stack",
    "lane",
    "at",
    "details",
    "result",
    "dtype",
    "o.view",
    "llm",
    "encoder",
    "seed",
    "_x",
    "o.",
]
VALUES = ["1", "nano", "compare", "on", "once", 'nano before="a b"', "nano window=nan", "nano dtype=x", "%00", "%ff%fe"]
QUERY = ANY | st.lists(
    st.tuples(st.sampled_from(KEYS) | ANY, st.sampled_from(VALUES) | ANY).map("=".join), max_size=6
).map("&".join)


# --- permalinks and lanes ---


@given(QUERY)
@example("v=1&at=once")  # found by fuzz.py
@example("v=1&stack=nano&before=%ED%A0%80")
@example("v=1&view=compare&lane=nano+window%3Dnan&lane=nano+window%3D1e999")
def test_any_address_is_read_and_what_is_known_of_it_is_stable(hub: Hub, query: str) -> None:
    link, problems = from_query(query)
    assert all(isinstance(problem, str) and problem for problem in problems)
    kept, _ = known(link, hub)
    assert known(kept, hub) == (kept, [])
    assert from_query(to_query(kept)) == (kept, [])


NAME = st.text(st.characters(exclude_characters="=\"'", exclude_categories=["Z", "C"]), min_size=1, max_size=12)
UTF8 = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LANE = st.builds(
    Lane,
    NAME,
    st.dictionaries(st.sampled_from(Stage), UTF8, max_size=2),
    st.dictionaries(NAME.filter(lambda name: name not in (*Stage, "dtype", "window") and name[:8] != "weights."), UTF8),
    st.just({}),
    st.none() | st.sampled_from(["float32", "bfloat16"]),
    st.none() | st.floats(1, 3600),
)


@given(LANE)
@example(Lane("nano", window=12.3456789))
@example(Lane("nano", {}, {"before": "a'b\"c \\ \n"}))
def test_a_lane_comes_back_as_it_was_written(lane: Lane) -> None:
    assert parse_lane(str(lane)) == lane


@given(LANE)
def test_a_lane_in_a_link_comes_back(lane: Lane) -> None:
    link = Link("compare", (lane, lane), True, True)
    with contextlib.suppress(HubError):  # too long
        assert from_query(to_query(link)) == (link, [])


@given(
    ANY | st.lists(ANY | st.sampled_from(["nano", "llm=", '"', "'", "window=", "=", "weights.canary=/x"])).map(" ".join)
)
def test_any_line_is_a_lane_or_refused(hub: Hub, line: str) -> None:
    with contextlib.suppress(HubError):
        lane = parse_lane(line)
        assert parse_lane(str(lane)) == lane
        hub.stack(lane)


# --- options ---


@given(st.lists(ANY))
def test_any_pairs_are_read_or_refused(pairs: list[str]) -> None:
    with contextlib.suppress(HubError):
        assert set(parse_pairs(pairs)) == {pair.partition("=")[0].strip() for pair in pairs}


def options_of(hub: Hub) -> dict[Stage, ComponentSpec]:
    swaps = {Stage.PROMPT_TEMPLATE: "canary/custom-prompt", Stage.ENCODER: "canary/fastconformer-local"}
    return hub.components(hub.stack("nano", components=swaps))


NAMES = [
    "max_new_tokens",
    "temperature",
    "seed",
    "adapter",
    "before",
    "system",
    "llm.seed",
    "left_context",
    "llm.",
    ".",
]


@given(st.dictionaries(st.sampled_from(NAMES) | ANY, JSON, max_size=3))
def test_any_options_are_usable_or_refused(hub: Hub, values: dict[str, Any]) -> None:
    parts = options_of(hub)
    with contextlib.suppress(HubError):
        for stage, given_here in by_stage(values, parts).items():
            build_and_call(parts[stage], given_here)


# --- manifests ---

FIELDS = ["audio_filepath", "text", "duration", "offset", "path", "sentence"]
ROW = st.dictionaries(st.sampled_from(FIELDS), JSON | ANY, max_size=4)


@given(st.binary(max_size=200) | st.lists(ROW).map(lambda rows: "\n".join(map(json.dumps, rows)).encode()))
@example(b'{"audio_filepath": "a.wav", "text": "x", "duration": 1' + b"0" * 400 + b"}")
@example(b'{"audio_filepath": "\\ud800", "text": "x"}')
@example(b'{"audio_filepath": "a\\u0000", "text": "x"}')
@example(b'{"audio_filepath": "a", "text": "x", "offset": 1e308, "duration": 1e308}')
@example(b"[" * 5000)
def test_any_json_lines_are_a_manifest_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    read(path)


CELL = ANY.map(lambda text: text.replace("\ud800", "")) | st.sampled_from(
    ['"', "\t", ",", "\r", "1e999", "nan", "-1", ""]
)


@given(st.sampled_from(["csv", "tsv"]), st.binary(max_size=200) | st.lists(st.lists(CELL, max_size=4), max_size=4))
@example("csv", b"path,text\n" + b"x" * 200_000 + b",y\n")
@example("csv", b"path,text\na.wav\n")
@example("csv", b"path,text\na.wav,x,y,z\n")
@example("csv", b"path,path\n\0,\0\n")
def test_any_table_is_a_manifest_or_refused(tmp_path: Path, suffix: str, content: Any) -> None:
    if not isinstance(content, bytes):
        rows = ["audio_filepath,text,offset,duration", *(",".join(row) for row in content)]
        content = "\n".join(rows).encode("utf-8", "surrogatepass")
    path = tmp_path / f"manifest.{suffix}"
    path.write_bytes(content)
    read(path)


def read(path: Path) -> None:
    with contextlib.suppress(HubError):
        for window in open_manifest(path).windows():
            for utterance in window:
                with contextlib.suppress(AudioError):
                    utterance.load(16000)


# --- traces, comparisons, shared results ---


@given(st.binary(max_size=100) | JSON.map(json.dumps))
@example('{"kind": "canary_hub comparison", "version": 1, "comparisons": []}')
@example('{"kind": "canary_hub comparison", "version": 1}')
@example("[" * 100_000)
@example(b"\xff\xfe{")
@example('{"version": ' + "9" * 5000 + "}")
def test_any_document_is_a_comparison_or_refused(document: Any) -> None:
    with contextlib.suppress(HubError):
        to_markdown(from_json(document))


def damaged(data: st.DataObject, document: Any) -> Any:
    """The document with one to three of its values replaced or left out."""
    for _ in range(data.draw(st.integers(1, 3))):
        at: Any = document
        while isinstance(at, (dict, list)) and at:
            key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            if not isinstance(at[key], (dict, list)) or data.draw(st.booleans()):
                if data.draw(st.booleans()):
                    at[key] = data.draw(JSON)
                else:
                    del at[key]
                break
            at = at[key]
    return document


def test_a_comparison_that_cannot_be_shown_is_refused() -> None:
    """Found by fuzz.py."""
    document = json.loads(sample_document())
    lane = document["comparisons"][0]["lanes"][0]
    lane["segments"][0]["confidence"] = -0.5
    to_markdown(from_json(json.dumps(document)))
    del lane["errors"]["whisper"]
    with pytest.raises(HubError, match="without error rates"):
        from_json(json.dumps(document))


@given(data=st.data())
def test_a_damaged_comparison_is_refused_or_can_be_shown(data: st.DataObject) -> None:
    """Whatever its numbers: a file that a visitor opens was perhaps written by hand."""
    document = damaged(data, json.loads(sample_document()))
    with contextlib.suppress(HubError):
        comparisons = from_json(json.dumps(document))
        to_markdown(comparisons)
        for comparison in comparisons:
            transcripts(comparison)
            measures(comparison)
        written = to_json(comparisons)
        assert to_json(from_json(written)) == written
        written.encode()


def sample_document() -> str:
    stage = {"component": "canary/x", "seconds": 1.0, "nbytes": 4}
    edits = {"hits": 1, "substitutions": 0, "deletions": 0, "insertions": 0}
    errors = {name: {"words": edits, "characters": edits} for name in ("whisper", "raw")}
    segment = {"start": 0.0, "end": 1.0, "text": "one", "tokens": 2, "confidence": 0.5}
    lane = {
        "lane": "nano",
        "stack": "nano",
        "components": {"llm": "canary/qwen3"},
        "options": {"llm": {"seed": 0}},
        "dtype": "float32",
        "segments": [segment],
        "stages": {"audio": stage, "llm": stage},
        "first_token_seconds": 0.1,
        "errors": errors,
        "against_first": [{"kind": "equal", "reference": ["one"], "hypothesis": ["one"]}],
        "distances": {"encoder": {"max_abs": 0.0, "cosine": 0.0}},
        "state": "done",
    }
    failed = {"lane": "x", "message": "no", "state": "failed"}
    comparison = {"file": "a.wav", "duration": 1.0, "lanes": [lane, lane, failed], "reference": "one"}
    return json.dumps({"kind": "canary_hub comparison", "version": 1, "comparisons": [comparison]})


@given(data=st.data())
@settings(max_examples=40)
def test_a_damaged_result_is_refused_or_comes_back(tmp_path: Path, data: st.DataObject) -> None:
    lane = json.loads(sample_document())["comparisons"][0]["lanes"][0]
    plain = {"file": "a.wav", "duration": 1.0, "stack": "nano", "segments": lane["segments"], "seconds": {"llm": 1.0}}
    document = json.dumps(damaged(data, plain)).encode()
    with contextlib.suppress(HubError, ValidationError):
        result = TypeAdapter(Result).validate_json(document)
        shared = SharedResults(tmp_path)
        opened = shared.open(shared.save(result).id)
        assert opened.result == result
        heading(opened)
        body(opened)


ABOUT = st.fixed_dictionaries(
    {},
    optional={"version": st.just(1) | JSON, "kind": JSON, "created": JSON, "expires": JSON | st.just(9e9), "key": JSON},
)


@given(st.binary(max_size=50) | (ABOUT | JSON).map(lambda value: json.dumps(value).encode()), st.binary(max_size=50))
@example(b'{"version": 1}', b"{}")
@example(b'{"version": 1, "expires": 9e9, "kind": "comparison"}', b"")
@example(
    b'{"version": 1, "expires": 9e9, "created": 1, "key": "x", "kind": "comparison"}',
    b'{"kind": "canary_hub comparison", "version": 1, "comparisons": []}',
)
@example(b'{"version": 1, "expires": "soon", "kind": "transcript"}', b"{}")
@example(b"[" * 100_000, b"")
def test_a_damaged_shared_result_is_refused(tmp_path: Path, about: bytes, content: bytes) -> None:
    shared, id = SharedResults(tmp_path), "A" * 22
    folder = tmp_path / "results" / id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "about.json").write_bytes(about)
    (folder / "result.json").write_bytes(content)
    with contextlib.suppress(HubError):
        shared.open(id)
    with contextlib.suppress(HubError):
        shared.delete(id, "no such key")
    shared.remove_expired()


# --- prompts ---


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return ChatTokenizer(ORACLE / "llm" / "tokenizer.json", ORACLE / "llm" / "tokenizer_config.json", SLOT)


TEMPLATES = {
    "canary/chat-prompt": (ChatPrompt(), ("before", "after")),
    "canary/custom-prompt": (CustomPrompt(), ("system", "before", "after")),
    "canary/context-prompt": (ContextPrompt(), ("terms",)),
}


@pytest.mark.parametrize("id", TEMPLATES)
@given(data=st.data())
def test_what_is_typed_stays_text(hub: Hub, tokenizer: ChatTokenizer, id: str, data: st.DataObject) -> None:
    """One audio slot, the template's own control tokens and no other, whatever is typed."""
    template, fields = TEMPLATES[id]
    values = {field: data.draw(TYPED, field) for field in fields}
    with contextlib.suppress(HubError):
        _, options = build_and_call(hub.registry.component(id, Stage.PROMPT_TEMPLATE), values)
        pieces = template.render(options)
        ids = tokenizer.encode(pieces)
        own = [tokenizer.control_id(piece.text) for piece in pieces if isinstance(piece, Text) and piece.control]
        assert sum(isinstance(piece, AudioSlot) for piece in pieces) == ids.count(tokenizer.placeholder_id) == 1
        assert [id for id in ids if id >= 396 and id != tokenizer.placeholder_id] == own

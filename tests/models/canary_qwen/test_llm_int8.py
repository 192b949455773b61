"""canary/qwen3-int8: its product is that of the rounded weights, and its answers are those of canary/qwen3."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from canary_hub import Hub, HubError
from canary_hub.models.canary_qwen.llm_int8 import CHUNK_ROWS, Int8RowLinear, Int8Weight, add_int8_rows, build
from canary_hub.models.cpu import RowLinear, forward_pass
from canary_hub.pipeline import Stack
from canary_hub.run.injection import Injected, inject
from canary_hub.specs import Options, Stage
from canary_hub.stages import Build, Step

DIGITS = sorted((Path(__file__).parents[2] / "digits").glob("*.flac"))
INT8 = {Stage.LLM: "canary/qwen3-int8"}


def weight(rows: int, columns: int) -> torch.Tensor:
    """Rows of very different sizes, one of them zero."""
    made = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    made[0] = 0
    made[1] *= 1e3
    made[2] *= 1e-6
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_is_at_most_half_a_step_of_the_row(dtype):
    source = weight(CHUNK_ROWS + 3, 48).to(dtype)
    int8 = Int8Weight.of(source)
    error = (int8.values.double() * int8.scales.double()[:, None] - source.double()).abs()
    # A row's step is its largest value / 127, up to the rounding of scales to bfloat16.
    allowed = 0.5 * source.double().abs().amax(1) / 127 * (1 + 2**-8)
    assert (error.amax(1) <= allowed).all()
    assert int8.values.abs().max() == 127


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(96, 256), (7, 16), (259, 48)])
def test_the_product_is_that_of_the_dequantised_weight(dtype, shape):
    int8 = Int8Weight.of(weight(*shape))
    x = torch.randn(1, shape[1]).to(dtype)
    exact = x.bfloat16().double() @ (int8.values.double() * int8.scales.double()[:, None]).T
    got = int8.product(x)
    assert got.dtype == dtype
    # The sum is rounded to bfloat16 once (2**-9), beside float32's own error of terms that cancel.
    terms = x.bfloat16().double().abs() @ (int8.values.double() * int8.scales.double()[:, None]).abs().T
    assert ((got.double() - exact).abs() <= 2**-8 * exact.abs() + 1e-5 * terms + 1e-7).all()


@pytest.mark.parametrize("start", [1, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_row_may_lie_anywhere_in_memory(start, stride):
    int8 = Int8Weight.of(weight(8, 64))
    x = torch.randn(1, 200).bfloat16()[:, start : start + 64 * stride : stride]
    assert torch.equal(int8.product(x), int8.product(x.clone(memory_format=torch.contiguous_format)))


def test_one_row_takes_int8_and_more_rows_the_weight_itself():
    plain = torch.nn.Linear(64, 32, bias=False).bfloat16().requires_grad_(False)
    linear = torch.nn.Linear(64, 32, bias=False).bfloat16().requires_grad_(False)
    linear.weight = plain.weight
    assert add_int8_rows(linear) == 32 * 64 + 32 * 2
    x = torch.randn(1, 3, 64).bfloat16()
    with forward_pass():
        assert torch.equal(linear(x), plain(x))
        one = linear(x[:, :1])
        assert torch.equal(one[0], linear.int8.product(x[0, :1]))
        assert one.shape == (1, 1, 32)
        assert not torch.equal(one, plain(x[:, :1]))


def test_another_weight_in_its_place_is_not_multiplied_by_the_old_int8():
    linear = torch.nn.Linear(64, 32, bias=False).bfloat16().requires_grad_(False)
    add_int8_rows(linear)
    linear.weight = torch.nn.Parameter(-linear.weight, requires_grad=False)
    x = torch.randn(1, 64).bfloat16()
    with forward_pass():
        assert torch.equal(linear(x), RowLinear.forward(linear, x))
        torch.testing.assert_close(linear(x), x @ linear.weight.T, rtol=1e-2, atol=1e-2)


def test_what_the_kernel_cannot_read_stays_as_it_is():
    module = torch.nn.Sequential(torch.nn.Linear(40, 48, bias=False), torch.nn.Linear(48, 8)).requires_grad_(False)
    x = torch.randn(1, 40)
    expected = module(x)
    assert add_int8_rows(module) == 0
    assert torch.equal(module(x), expected)


def test_another_device_is_refused_before_anything_is_read():
    with pytest.raises(HubError, match="cpu, or the LLM backend canary/qwen3"):
        build(Build(Options(), device="cuda"))


# ---- the backend, on nano and on the oracle's random checkpoint ----------------------------------


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def pair(request, hub: Hub) -> tuple[Stack, Stack]:
    """nano with canary/qwen3, and with canary/qwen3-int8."""
    return tuple(
        hub.load("nano", components=parts, dtype=request.param, device="cpu")
        for parts in ({Stage.LLM: "canary/qwen3"}, INT8)
    )


def prompt(stack: Stack, rows: int) -> Injected:
    """Prompts around noise as audio embeddings, each shorter than the one before."""
    llm = stack.component(Stage.LLM)
    ids = llm.tokenize(stack.component(Stage.PROMPT_TEMPLATE).render(stack.options[Stage.PROMPT_TEMPLATE]))
    words = llm.embed(torch.arange(40 * rows).view(rows, 40) % 300 + 5)
    return inject([ids] * rows, llm.embed, [row[: 40 - 7 * i] for i, row in enumerate(words)], llm.placeholder_id)


def steps(stack: Stack, rows: int = 1, **options) -> list[Step]:
    """Ten steps whatever is written, unless it ends."""
    given = prompt(stack, rows)
    call = stack.call_options(**{"llm.max_new_tokens": 10, **{f"llm.{k}": v for k, v in options.items()}})
    return list(stack.component(Stage.LLM).generate(given.inputs_embeds, given.attention_mask, call[Stage.LLM]))


def distance(one: list[Step], other: list[Step]) -> float:
    """Largest relative distance of the logits of a step, up to the first token that differs."""
    found = []
    for a, b in zip(one, other, strict=False):
        found.append(float((a.logits.float() - b.logits.float()).norm() / a.logits.float().norm()))
        if a.ids != b.ids:
            break
    return max(found)


def test_nano_hears_the_same_digits(pair):
    plain, int8 = pair
    heard = [plain.transcribe(path).text for path in DIGITS]
    assert [int8.transcribe(path).text for path in DIGITS] == heard
    assert sum(path.stem == text for path, text in zip(DIGITS, heard, strict=True)) >= 8


@pytest.mark.parametrize("adapter", [True, False])
def test_logits_are_close_with_the_adapter_on_and_off(pair, adapter):
    """Rounding to 255 steps of a row's largest value changes each product by about 1 %, in random
    directions; over the layers' sums 0.5 % of the logits' length is typical and 2 % the most seen on nano."""
    plain, int8 = pair
    assert all(type(m) is Int8RowLinear for m in int8.component(Stage.LLM).model.modules() if hasattr(m, "int8"))
    off = distance(steps(plain, adapter=adapter), steps(int8, adapter=adapter))
    assert 0 < off < 0.05


def test_the_adapter_switch_is_felt(hub, tiny_spec):
    """On random LoRA, which changes every logit; nano's adapter off is close to on at some steps."""
    plain = hub.load(tiny_spec, dtype="float32", device="cpu")
    int8 = hub.load(tiny_spec, components=INT8, dtype="float32", device="cpu")
    on, off = steps(int8, adapter=True), steps(int8, adapter=False)
    back = steps(int8, adapter=True)
    assert distance(on, back) == 0
    apart = distance(on[:1], off[:1])
    assert distance(steps(plain, adapter=False), off) < 0.05 < apart
    assert distance(steps(plain, adapter=True), on) < 0.05


def test_a_batch_is_that_of_qwen3_to_the_bit(pair):
    plain, int8 = pair
    for a, b in zip(steps(plain, rows=2), steps(int8, rows=2), strict=True):
        assert a.ids == b.ids
        assert torch.equal(a.logits, b.logits)


def test_the_int8_copies_are_counted(pair):
    plain, int8 = (stack.component(Stage.LLM) for stack in pair)
    linears = [m for m in plain.model.modules() if isinstance(m, torch.nn.Linear)]
    assert len(linears) == 7 * plain.model.config.num_hidden_layers + 1  # the head too
    assert int8.nbytes - plain.nbytes == sum(m.weight.numel() + 2 * m.out_features for m in linears)

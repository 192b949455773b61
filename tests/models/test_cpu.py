"""The CPU kernels of a decoding step give what the plain ones give."""

from __future__ import annotations

import pytest
import torch

from canary_hub.models.cpu import RowLinear, attend, forward_pass, speed_up_single_rows


@pytest.mark.parametrize("rows", [1, 3])
def test_row_linear_equals_linear_and_leaves_onednn_on(rows):
    linear = torch.nn.Linear(256, 96, bias=False).bfloat16().requires_grad_(False)
    x = torch.randn(1, rows, 256).bfloat16()
    expected = linear(x)
    before = torch.backends.mkldnn.enabled
    speed_up_single_rows(linear)
    with forward_pass():
        got = linear(x)
    assert type(linear) is RowLinear
    assert torch.backends.mkldnn.enabled is before
    torch.testing.assert_close(got, expected, rtol=1e-2, atol=1e-2)


def test_float32_and_biased_linears_stay_as_they_are():
    module = torch.nn.Sequential(torch.nn.Linear(8, 8, bias=False), torch.nn.Linear(8, 8).bfloat16())
    speed_up_single_rows(module)
    assert type(module[0]) is torch.nn.Linear
    with forward_pass():
        assert module[1](torch.ones(1, 8).bfloat16()).shape == (1, 8)


@pytest.mark.parametrize("padded", [False, True])
def test_attention_of_a_single_position_equals_sdpa(padded):
    query, key, value = torch.randn(2, 8, 1, 16), torch.randn(2, 4, 9, 16), torch.randn(2, 4, 9, 16)
    mask = torch.ones(2, 1, 1, 9, dtype=torch.bool)
    mask[1, ..., :4] = False
    given = mask if padded else None
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=given, scale=0.3, enable_gqa=True
    )
    got, _ = attend(torch.nn.Module(), query, key, value, given, scaling=0.3)
    torch.testing.assert_close(got, expected.transpose(1, 2))

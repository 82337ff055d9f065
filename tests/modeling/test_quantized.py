"""KV quantisation of full heads: its error is what the number of bits allows, and sparse heads stay exact."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longgen.modeling import LongGenCache
from longgen.modeling.cache.quantized import dequantize, quantize
from tests.modeling.models import PATTERNS, tiny_hybrid, tokens


@settings(max_examples=60)
@given(st.sampled_from([8, 4]), st.sampled_from([-1, 1]), st.integers(0, 2**16), st.floats(-3, 3))
def test_error_is_at_most_half_a_step(bits, dim, seed, exponent):
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(3, 5, 8, generator=generator, dtype=torch.float64) * 10**exponent
    states[0] = 2.5  # a group without any range
    codes, scale, zero = quantize(states, bits, dim)
    assert codes.dtype == torch.uint8
    assert codes.shape == (3, 5, 8 * bits // 8)
    error = (dequantize(codes, bits, scale, zero) - states).abs()
    step = (states.amax(dim, keepdim=True) - states.amin(dim, keepdim=True)) / (2**bits - 1)
    assert bool((error <= 0.5001 * step).all())


def test_four_bit_codes_are_packed_in_order():
    states = torch.arange(16.0)
    codes, scale, zero = quantize(states, 4, -1)
    assert codes.tolist() == [low | (low + 1) << 4 for low in range(0, 16, 2)]
    assert torch.equal(dequantize(codes, 4, scale, zero), states)


@pytest.mark.parametrize("layout", ["middle:1/3", "heads:1/3"])
def test_logits_come_nearer_with_more_bits(layout):
    hybrid, x = tiny_hybrid(layout=layout, pattern=PATTERNS[1]).double(), tokens(300)

    def last_logits(**options) -> torch.Tensor:
        cache = LongGenCache(hybrid.config, **options)
        with torch.no_grad():
            hybrid(x[:, :250], past_key_values=cache)
            return torch.cat([hybrid(token, past_key_values=cache).logits for token in x[:, 250:].split(1, 1)], 1)

    exact = last_logits()
    error8, error4 = ((last_logits(full_bits=bits) - exact).norm() / exact.norm() for bits in (8, 4))
    assert 0 < error8 < 2e-3
    assert 4 * error8 < error4 < 5e-2


def test_nothing_is_lost_before_the_first_group_is_full():
    hybrid, x = tiny_hybrid(), tokens(63)
    exact, quantised = LongGenCache(hybrid.config), LongGenCache(hybrid.config, full_bits=4)
    with torch.no_grad():
        for token in x.split(1, 1):
            assert torch.equal(
                hybrid(token, past_key_values=exact).logits, hybrid(token, past_key_values=quantised).logits
            )


def test_generate_takes_the_number_of_bits():
    hybrid, x = tiny_hybrid(), tokens(100)
    output = hybrid.generate(
        x,
        max_new_tokens=5,
        cache_implementation="quantized",
        cache_config={"nbits": 4},
        return_dict_in_generate=True,
    )
    assert output.past_key_values.full_bits == 4
    assert output.past_key_values.nbytes() < hybrid(x).past_key_values.nbytes()

"""Padded batches: every row computes what it computes alone, whatever stands beside it."""

import pytest
import torch
from transformers import DynamicCache

from longgen.errors import ConfigError
from longgen.modeling import LongGenCache
from tests.modeling.models import LAYOUTS, PATTERNS, combined, tiny_base, tiny_hybrid, tokens

LENGTHS = [61, 7, 40, 1]
WIDTH = 61


def padded(side: str) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """The rows alone; and together, with their mask."""
    rows = [tokens(length, batch=1, seed=length) for length in LENGTHS]
    batch, mask = torch.full((len(rows), WIDTH), 5), torch.zeros(len(rows), WIDTH, dtype=torch.long)
    for index, (row, length) in enumerate(zip(rows, LENGTHS, strict=True)):
        place = slice(WIDTH - length, WIDTH) if side == "left" else slice(0, length)
        batch[index, place], mask[index, place] = row[0], 1
    return rows, batch, mask


def real(logits: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    return [row[own.bool()] for row, own in zip(logits, mask, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "pattern", "side"), combined(LAYOUTS, PATTERNS, ["left", "right"]), ids=str)
def test_every_row_computes_what_it_computes_alone_with_and_without_a_cache(layout, pattern, side):
    hybrid = tiny_hybrid(layout=layout, pattern=pattern).double()
    rows, batch, mask = padded(side)
    following = tokens(30, batch=len(rows), seed=11)
    with torch.no_grad():
        whole = [torch.cat([row, following[i : i + 1]], 1) for i, row in enumerate(rows)]
        alone = [hybrid(row, use_cache=False).logits[0] for row in whole]
        together = real(hybrid(batch, attention_mask=mask, use_cache=False).logits, mask)
        for got, want, length in zip(together, alone, LENGTHS, strict=True):
            torch.testing.assert_close(got, want[:length], rtol=1e-9, atol=1e-9)
        for sizes in ([WIDTH], [*[1] * 20, 21, *[1] * 20]):
            cache, seen, parts = LongGenCache(hybrid.config), 0, []
            for part in torch.split(batch, sizes, dim=1):
                seen += part.shape[1]
                parts.append(hybrid(part, attention_mask=mask[:, :seen], past_key_values=cache).logits)
            for got, want, length in zip(real(torch.cat(parts, 1), mask), alone, LENGTHS, strict=True):
                torch.testing.assert_close(got, want[:length], rtol=1e-9, atol=1e-9)
            # and on from there: with a mask, without one (nothing new is padding), token by token, in a chunk
            grown = torch.cat([mask, torch.ones(len(rows), 1, dtype=torch.long)], 1)
            ahead = [hybrid(following[:, :1], attention_mask=grown, past_key_values=cache).logits]
            ahead += [hybrid(part, past_key_values=cache).logits for part in following[:, 1:].split([1, 20, 1, 7], 1)]
            for index, (got, want) in enumerate(zip(torch.cat(ahead, 1), alone, strict=True)):
                torch.testing.assert_close(got, want[LENGTHS[index] :], rtol=1e-9, atol=1e-9)


def test_equal_to_the_base_model_where_all_is_full():
    hybrid, base = tiny_hybrid(layout="all").double(), tiny_base().double()
    _, batch, mask = padded("left")
    with torch.no_grad():
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        expected = real(base(batch, attention_mask=mask, position_ids=positions).logits, mask)
        actual = real(hybrid(batch, attention_mask=mask).logits, mask)
    for got, want in zip(actual, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


OPTIONS = [{}, {"num_beams": 3}, {"prefill_chunk_size": 16}, {"cache_implementation": "static"}]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "options"), [("llama", each) for each in OPTIONS] + [("qwen3", OPTIONS[3])])
def test_generation_of_a_left_padded_batch_equals_that_of_its_rows(family, options):
    hybrid = tiny_hybrid(family, "heads:1/3", PATTERNS[-1])
    rows, batch, mask = padded("left")
    common = {"max_new_tokens": 25, "do_sample": False, "eos_token_id": None} | options
    together = hybrid.generate(batch, attention_mask=mask, **common)
    common.pop("cache_implementation", None)
    for index, row in enumerate(rows):
        assert torch.equal(together[index, WIDTH:], hybrid.generate(row, **common)[0, row.shape[1] :]), index


def test_gradients_are_those_of_the_rows():
    rows, batch, mask = padded("left")
    together, alone = tiny_hybrid().train(), tiny_hybrid().train()
    labels = batch.masked_fill(mask == 0, -100)
    labels[torch.arange(len(rows)), WIDTH - torch.tensor(LENGTHS)] = -100  # what padding would predict
    together(batch, attention_mask=mask, labels=labels).loss.backward()
    targets = sum(length - 1 for length in LENGTHS)
    for row in rows:
        if row.shape[1] > 1:
            (alone(row, labels=row).loss * (row.shape[1] - 1) / targets).backward()
    for (name, got), want in zip(together.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(got.grad, want.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("layout", ["middle:1/3", "heads:1/3"])
@pytest.mark.parametrize("own_cache", [True, False])
def test_padding_between_tokens_and_in_a_cache_of_transformers(own_cache, layout):
    """As PEFT's virtual tokens stand before the left padding; in two chunks and a single token."""
    hybrid = tiny_hybrid("qwen3", layout, PATTERNS[-1]).double()
    ids = tokens(76, batch=3)
    mask = torch.rand(ids.shape, generator=torch.Generator().manual_seed(5)) < 0.7
    mask[:, -1], mask[1], mask[2, 8:40] = True, True, False
    cache = LongGenCache(hybrid.config) if own_cache else DynamicCache(config=tiny_base("qwen3").config)
    with torch.no_grad():
        whole = hybrid(ids, attention_mask=mask).logits
        chunks = [
            hybrid(ids[:, start:end], attention_mask=mask[:, :end], past_key_values=cache).logits
            for start, end in ((0, 50), (50, 75), (75, 76))
        ]
        for row, real in enumerate(mask):
            alone = hybrid(ids[row : row + 1, real]).logits[0]
            torch.testing.assert_close(whole[row, real], alone, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(torch.cat(chunks, 1)[row, real], alone, rtol=1e-9, atol=1e-9)


def test_what_cannot_be_right_is_refused():
    hybrid = tiny_hybrid()
    _, batch, mask = padded("left")
    with torch.no_grad():
        with pytest.raises(ValueError, match=r"attention_mask has shape \[4, 60\]: allowed is \[4, 61\]"):
            hybrid(batch, attention_mask=mask[:, 1:])
        with pytest.raises(ConfigError, match="full_bits is 8: allowed is None with padded batches"):
            hybrid(batch, attention_mask=mask, past_key_values=LongGenCache(hybrid.config, full_bits=8))


def test_one_row_of_positions_stands_for_all_rows():
    hybrid, x, mask = tiny_hybrid(), tokens(45, batch=2), torch.ones(2, 45, dtype=torch.long)
    with torch.no_grad():
        expected = hybrid(x).logits
        torch.testing.assert_close(hybrid(x, position_ids=torch.arange(45)[None], attention_mask=mask).logits, expected)
    two = torch.cat([torch.arange(20), torch.arange(25)])[None]
    with pytest.raises(ValueError, match="position_ids do not rise by one"):
        hybrid(x, position_ids=two, attention_mask=mask)

"""Documents packed into a row compute what each computes alone."""

import pytest
import torch
from transformers import DataCollatorWithFlattening

from longgen.attention import PackedDocuments
from longgen.modeling import LongGenCache
from longgen.modeling.packing import positions_in_documents
from tests.modeling.models import PATTERNS, tiny_hybrid, tokens

LENGTHS = [23, 1, 40, 11]
CASES = [("middle:1/3", PATTERNS[1]), ("heads:1/3", PATTERNS[-1]), ("none", PATTERNS[-1])]


def collated() -> dict[str, torch.Tensor]:
    documents = tokens(sum(LENGTHS)).split(LENGTHS, dim=1)
    collate = DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    return collate([{"input_ids": document[0].tolist()} for document in documents])


@pytest.mark.parametrize(("layout", "pattern"), CASES, ids=str)
@pytest.mark.parametrize("told_by", ["position_ids", "cu_seq_lens_q"])
def test_documents_do_not_attend_across(layout, pattern, told_by):
    hybrid, batch = tiny_hybrid(layout=layout, pattern=pattern), collated()
    told = {told_by: batch[told_by]}
    hybrid(batch["input_ids"], labels=batch["labels"], **told).loss.backward()
    gradients = [parameter.grad.clone() for parameter in hybrid.parameters()]
    hybrid.zero_grad()
    with torch.no_grad():
        logits = hybrid(batch["input_ids"], **told).logits
    total = 0.0
    for part in PackedDocuments.of_lengths(LENGTHS).slices():
        alone = hybrid(batch["input_ids"][:, part]).logits
        torch.testing.assert_close(logits[:, part], alone, rtol=1e-4, atol=1e-5)
        targets = batch["input_ids"][0, part][1:]
        total += torch.nn.functional.cross_entropy(alone[0, :-1], targets, reduction="sum")
    (total / (sum(LENGTHS) - len(LENGTHS))).backward()
    for parameter, got in zip(hybrid.parameters(), gradients, strict=True):
        torch.testing.assert_close(got, parameter.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("layout", "pattern"), CASES, ids=str)
def test_every_row_may_hold_documents_of_its_own(layout, pattern):
    hybrid = tiny_hybrid(layout=layout, pattern=pattern)
    x, lengths = tokens(40, batch=3), ([40], [13, 27], [1, 30, 9])
    positions = torch.cat([torch.cat([torch.arange(n) for n in row])[None] for row in lengths])
    logits = hybrid(x, position_ids=positions).logits
    for row, own in enumerate(lengths):
        for part in PackedDocuments.of_lengths(own).slices():
            alone = hybrid(x[row : row + 1, part]).logits
            torch.testing.assert_close(logits[row : row + 1, part], alone, rtol=1e-4, atol=1e-5)


def test_what_the_collator_gives_is_taken_as_it_is():
    hybrid, batch = tiny_hybrid(), collated()
    whole = hybrid(**batch).logits
    assert torch.equal(whole, hybrid(batch["input_ids"], position_ids=batch["position_ids"]).logits)
    one = hybrid(batch["input_ids"], cu_seq_lens_q=torch.tensor([0, sum(LENGTHS)], dtype=torch.int32)).logits
    torch.testing.assert_close(one, hybrid(batch["input_ids"]).logits)
    assert not torch.allclose(one, whole)


def test_positions_begin_anew_with_every_document():
    packed = PackedDocuments.of_lengths([3, 1, 2])
    assert positions_in_documents(packed, 6).tolist() == [[0, 1, 2, 0, 0, 1]]


def test_what_cannot_be_packed_is_refused():
    hybrid, batch = tiny_hybrid(), collated()
    x, position_ids = batch["input_ids"], batch["position_ids"]
    with pytest.raises(ValueError, match="cu_seq_lens_q is given and the batch has 2 rows: allowed is 1"):
        hybrid(x.expand(2, -1), cu_seq_lens_q=torch.tensor([0, x.shape[1]]))
    with pytest.raises(ValueError, match="documents are packed and a cache is wanted"):
        hybrid(x, position_ids=position_ids, past_key_values=LongGenCache(hybrid.config))
    with pytest.raises(ValueError, match="documents are packed and a cache is wanted"):
        hybrid(x, position_ids=position_ids, use_cache=True)
    for bounds in ([0, 10], [0, 40, 30, x.shape[1]], [1, x.shape[1]], [0]):
        with pytest.raises(ValueError, match=r"cu_seq_lens_q is \[.*allowed are rising numbers from 0 to"):
            hybrid(x, cu_seq_lens_q=torch.tensor(bounds))
    with pytest.raises(ValueError, match="do not rise by one: allowed without a cache and without a mask"):
        hybrid(x, position_ids=position_ids, attention_mask=torch.ones_like(x))


def test_the_kernel_of_full_heads_can_be_chosen():
    hybrid, x = tiny_hybrid(), tokens(40)
    expected = hybrid(x).logits
    hybrid.use_full_attention("sdpa")
    torch.testing.assert_close(hybrid(x).logits, expected)
    assert hybrid.attention_kernels() == {"sparse": "blocked", "full": "sdpa"}
    hybrid.use_full_attention("sdpa-cudnn")
    hybrid.set_attn_implementation("longgen_reference")
    assert hybrid.attention_kernels() == {"sparse": "reference", "full": "sdpa-cudnn"}
    with pytest.raises(ValueError, match="full attention by sdpa-cudnn: the input is cpu"):
        hybrid(x)
    with pytest.raises(ValueError, match="full attention kernel is 'fast': allowed are auto, flash-attn"):
        hybrid.use_full_attention("fast")

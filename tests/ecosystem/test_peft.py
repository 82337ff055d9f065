"""PEFT: what it adapts when not told, and virtual tokens, also before padding."""

import pytest
import torch

peft = pytest.importorskip("peft", reason="peft is not installed: pip install 'longgen[lora]'")

from peft.utils import constants  # noqa: E402

from tests.modeling.models import FAMILIES, tiny_base, tiny_hybrid, tokens  # noqa: E402

CAUSAL_LM = {"task_type": "CAUSAL_LM"}
ADAPTERS = {
    "lora": lambda: peft.LoraConfig(**CAUSAL_LM),
    "ia3": lambda: peft.IA3Config(**CAUSAL_LM),
    "adalora": lambda: peft.AdaLoraConfig(**CAUSAL_LM, total_step=10),
}
VIRTUAL = 8
VIRTUAL_TOKENS = {
    "prompt": lambda: peft.PromptTuningConfig(**CAUSAL_LM, num_virtual_tokens=VIRTUAL),
    "p-tuning": lambda: peft.PromptEncoderConfig(**CAUSAL_LM, num_virtual_tokens=VIRTUAL, encoder_hidden_size=16),
    "prefix": lambda: peft.PrefixTuningConfig(**CAUSAL_LM, num_virtual_tokens=VIRTUAL),
}
LENGTHS = (45, 33, 61)


def trained(model) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_go_where_they_go_in_the_base(name, family):
    x, hybrid = tokens(45), tiny_hybrid(family)
    if (name, family) == ("adalora", "mistral"):  # PEFT has no default for the base: neither has the hybrid
        for model in (hybrid, tiny_base(family)):
            with pytest.raises(ValueError, match="target_modules"):
                peft.get_peft_model(model, ADAPTERS[name]())
        return
    with torch.no_grad():
        before = hybrid(x).logits
        adapted = peft.get_peft_model(hybrid, ADAPTERS[name]()).eval()
        torch.testing.assert_close(adapted(x).logits, before)  # they begin as nothing
    names = trained(adapted)
    assert names
    assert names == trained(peft.get_peft_model(tiny_base(family), ADAPTERS[name]()))


def test_every_table_of_defaults_knows_hybrids():
    tables = {name: table for name, table in vars(constants).items() if name.endswith("_MODULES_MAPPING")}
    assert len(tables) > 10
    for name, table in tables.items():
        for family in FAMILIES:
            assert table.get(f"longgen_{family}") == table.get(family), (name, family)


def with_virtual_tokens(model, kind):
    torch.manual_seed(7)
    return peft.get_peft_model(model, VIRTUAL_TOKENS[kind]()).eval()


def padded(side: str) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Rows of `LENGTHS` alone, and padded on a side; and the mask."""
    rows = [tokens(length, batch=1, seed=length) for length in LENGTHS]
    gaps = [max(LENGTHS) - length for length in LENGTHS]
    ends = [(gap, 0) if side == "left" else (0, gap) for gap in gaps]
    pad = torch.nn.functional.pad
    ids = torch.cat([pad(row, end) for row, end in zip(rows, ends, strict=True)])
    mask = torch.cat([pad(torch.ones_like(row), end) for row, end in zip(rows, ends, strict=True)])
    return rows, ids, mask


@pytest.mark.parametrize("kind", VIRTUAL_TOKENS)
@torch.no_grad()
def test_virtual_tokens_before_a_full_hybrid_are_those_before_its_base(kind):
    x = tokens(45)
    expected = with_virtual_tokens(tiny_base(), kind)(x).logits
    torch.testing.assert_close(with_virtual_tokens(tiny_hybrid(layout="all"), kind)(x).logits, expected)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", VIRTUAL_TOKENS)
def test_a_padded_row_computes_what_it_computes_alone(kind, side):
    model = with_virtual_tokens(tiny_hybrid(), kind)
    rows, ids, mask = padded(side)
    seen = mask.bool()
    if kind != "prefix":  # their logits come with those of the virtual tokens
        seen = torch.nn.functional.pad(seen, (VIRTUAL, 0), value=True)
    logits = model(input_ids=ids, attention_mask=mask).logits
    for row, alone in enumerate(rows):
        torch.testing.assert_close(logits[row, seen[row]], model(alone).logits[0])
    labels = torch.where(mask.bool(), ids, -100)
    model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
    for name, weight in model.named_parameters():
        assert not weight.requires_grad or bool(weight.grad.abs().sum() > 0), name


@pytest.mark.parametrize("layout", ["middle:1/3", "heads:1/3"])
@pytest.mark.parametrize("kind", VIRTUAL_TOKENS)
@torch.no_grad()
def test_generation(kind, layout):
    model = with_virtual_tokens(tiny_hybrid(layout=layout), kind)
    rows, ids, mask = padded("left")
    made = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=5, do_sample=False, eos_token_id=-1)
    for row, sequence in enumerate(rows):
        for _ in range(5):
            sequence = torch.cat([sequence, model(sequence).logits[:, -1:].argmax(-1)], dim=1)
        assert made[row, -5:].tolist() == sequence[0, -5:].tolist()

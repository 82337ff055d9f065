"""TRL's SFTTrainer, which calls the inner model: padded, packed, without padding, with LoRA, from a path."""

from itertools import pairwise

import numpy as np
import pytest

datasets = pytest.importorskip("datasets", reason="datasets is not installed: pip install 'longgen[data]'")
trl = pytest.importorskip("trl", reason="trl is not installed: pip install trl")

from tests.ecosystem.training import ONE_STEP, check_one_step, examples  # noqa: E402
from tests.modeling.models import FAMILIES, tiny_hybrid  # noqa: E402


@pytest.fixture
def train(tmp_path, tokenizer):
    """Makes an SFTTrainer of ``model`` and ``data`` that takes all of it in one step."""

    def make(model, data, peft_config=None, **arguments):
        settings = trl.SFTConfig(str(tmp_path), **ONE_STEP | {"per_device_train_batch_size": 8} | arguments)
        rows = datasets.Dataset.from_list(data)
        return trl.SFTTrainer(model, settings, train_dataset=rows, processing_class=tokenizer, peft_config=peft_config)

    return make


def documents_of(trainer, whole_rows=False):
    """The documents that TRL packed."""
    for row in trainer.train_dataset:
        ends = np.cumsum([0, *([len(row["input_ids"])] if whole_rows else row["seq_lengths"])])
        for start, end in pairwise(ends):
            yield {name: row[name][start:end] for name in ("input_ids", "labels")}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_padded(family, train):
    data = examples()
    check_one_step(train(tiny_hybrid(family), data), data)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["middle:1/3", "heads:1/3"])
def test_without_padding(layout, train):
    data = examples()
    check_one_step(train(tiny_hybrid(layout=layout), data, padding_free=True, max_length=None), data)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_packed(strategy, train):
    trainer = train(tiny_hybrid(), examples(), packing=True, packing_strategy=strategy, max_length=56)
    documents = list(documents_of(trainer, whole_rows=strategy == "wrapped"))
    assert len(documents) == {"bfd": 4, "bfd_split": 5, "wrapped": 3}[strategy]
    check_one_step(trainer, documents)


def test_wrapped_without_padding(train):
    trainer = train(
        tiny_hybrid(), examples(), packing=True, packing_strategy="wrapped", padding_free=True, max_length=56
    )
    check_one_step(trainer, list(documents_of(trainer, whole_rows=True)))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["padded", "packed"])
def test_lora(how, train):
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install 'longgen[lora]'")
    data = examples()
    packing = {"packing": True, "max_length": 64} if how == "packed" else {}
    trainer = train(tiny_hybrid(), data, peft.LoraConfig(task_type="CAUSAL_LM"), **packing)
    check_one_step(trainer, data)
    trained = [name for name, weight in trainer.model.named_parameters() if weight.requires_grad]
    assert {name.split(".")[-4] for name in trained} == {"q_proj", "v_proj"}


@pytest.mark.slow
@pytest.mark.parametrize("packing", [{}, {"packing": True, "max_length": 64}], ids=["padded", "packed"])
def test_from_a_path(packing, train, tokenizer, tmp_path):
    folder, data = tmp_path / "model", examples()
    tiny_hybrid().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    trainer = train(str(folder), data, **packing)
    assert type(trainer.model) is type(tiny_hybrid())
    check_one_step(trainer, data)
    trainer.save_model(str(tmp_path / "trained"))
    assert type(tiny_hybrid()).from_pretrained(tmp_path / "trained").config.longgen == tiny_hybrid().config.longgen

"""transformers' Trainer: trains on the labels that the data set has, evaluates, and keeps the best model."""

import pytest
import torch
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorWithFlattening,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from tests.ecosystem.training import ONE_STEP, check_one_step, examples, mean_loss
from tests.modeling.models import FAMILIES, tiny_hybrid

BATCH = {"per_device_train_batch_size": 4, "per_device_eval_batch_size": 4}


@pytest.fixture
def train(tmp_path):
    """Makes a Trainer of ``model`` and ``data``."""

    def make(model, data, collator=None, evaluate=None, **arguments):
        settings = TrainingArguments(str(tmp_path), **ONE_STEP | BATCH | arguments)
        return Trainer(model, settings, data_collator=collator, train_dataset=data, eval_dataset=evaluate)

    return make


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_padded_rows_with_labels(family, train, tokenizer):
    data = examples()
    check_one_step(train(tiny_hybrid(family), data, DataCollatorForSeq2Seq(tokenizer)), data)


@pytest.mark.slow
@pytest.mark.parametrize("flash_arguments", [False, True])
@pytest.mark.parametrize("layout", ["middle:1/3", "heads:1/3"])
def test_flattened_rows_keep_their_labels(layout, flash_arguments, train):
    data, collator = examples(), DataCollatorWithFlattening(return_flash_attn_kwargs=flash_arguments)
    # A document's first token has no label, whatever the data set says.
    assert collator(examples(lengths=(8,)))["labels"].tolist()[0][:6] == [-100] * 6
    check_one_step(train(tiny_hybrid(layout=layout), data, collator), data)


def test_rows_of_one_length(train):
    data = examples(lengths=(40, 40, 40, 40))
    check_one_step(train(tiny_hybrid(), data, default_data_collator), data)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_with_label_smoothing(family, train):
    """Trainer computes that loss itself; whether labels are those of the next token it knows by the model's class."""
    data = examples(lengths=(40, 40, 40, 40))
    check_one_step(train(tiny_hybrid(family), data, default_data_collator, label_smoothing_factor=0.1), data)


def test_labels_made_by_the_collator(train, tokenizer):
    data = examples(prompt=0)
    ids = [{"input_ids": row["input_ids"]} for row in data]
    check_one_step(train(tiny_hybrid(), ids, DataCollatorForLanguageModeling(tokenizer, mlm=False)), data)


def test_accumulated_and_checkpointed(train, tokenizer):
    data = examples()
    changes = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "gradient_checkpointing": True,
    }
    check_one_step(train(tiny_hybrid(), data, DataCollatorForSeq2Seq(tokenizer), **changes), data)


def test_mixed_precision(train, tokenizer):
    data = examples(lengths=(45, 120, 33, 61))
    trainer = train(tiny_hybrid(), data, DataCollatorForSeq2Seq(tokenizer), data, bf16=True)
    check_one_step(trainer, data, tolerance=0.02)
    with torch.no_grad():
        expected = mean_loss(trainer.model.eval(), data).item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=0.02)


def test_evaluation(train, tokenizer):
    model, data = tiny_hybrid(), examples()
    with torch.no_grad():
        expected = mean_loss(model, data).item()
    trainer = train(model, None, DataCollatorForSeq2Seq(tokenizer), data)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-5)
    predicted = trainer.predict(data)
    assert predicted.predictions.shape == (4, 61, 128)
    assert predicted.metrics["test_loss"] == pytest.approx(expected, abs=1e-5)


def test_the_best_model_is_loaded_at_the_end(train, tokenizer):
    data = examples()
    saving = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    # so far downhill that it comes up again
    wild = {"max_steps": 3, "learning_rate": 40.0, "load_best_model_at_end": True}
    trainer = train(tiny_hybrid(), data, DataCollatorForSeq2Seq(tokenizer), data, **saving | wild)
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert min(losses) < losses[-1], "this test needs a last model that is not the best"
    with torch.no_grad():
        assert mean_loss(trainer.model.eval(), data).item() == pytest.approx(min(losses), abs=1e-5)

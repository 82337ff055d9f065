"""What one step of training must do, computed by hand: one document after the other, without padding and packing."""

import copy

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel, Trainer

from tests.modeling.models import tokens

RATE = 0.5
# plain gradient descent and one step, so that the weights afterwards say what the gradient was
ONE_STEP = {
    "max_steps": 1,
    "learning_rate": RATE,
    "lr_scheduler_type": "constant",
    "optim": "sgd",
    "max_grad_norm": 0.0,
    "weight_decay": 0.0,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
    "gradient_checkpointing": False,
}
LENGTHS = (45, 20, 33, 61)  # longer than what the sparse layers see


def examples(prompt: int = 6, lengths: tuple[int, ...] = LENGTHS) -> list[dict[str, list[int]]]:
    """Documents whose first ``prompt`` tokens are not trained on."""
    rows = [tokens(length, batch=1, seed=length)[0].tolist() for length in lengths]
    return [{"input_ids": row, "labels": [-100] * prompt + row[prompt:]} for row in rows]


def mean_loss(model: PreTrainedModel, documents: list[dict[str, list[int]]], smoothing: float = 0.0) -> torch.Tensor:
    """Cross entropy, mean over all tokens that have a label."""
    total, count = torch.zeros(()), 0
    for document in documents:
        logits = model(torch.tensor([document["input_ids"]])).logits[0, :-1]
        labels = torch.tensor(document["labels"])[1:]
        total = total + F.cross_entropy(logits.float(), labels, reduction="sum", label_smoothing=smoothing)
        count += int((labels != -100).sum())
    return total / count


def check_one_step(trainer: Trainer, documents: list[dict[str, list[int]]], tolerance: float = 1e-5) -> None:
    """The trainer's step on all ``documents`` has the loss of `mean_loss`, and goes down its gradient."""
    model = copy.deepcopy(trainer.model).train()
    for module in model.modules():
        vars(module).pop("forward", None)  # TRL puts its own there, bound to the model it was made for
    loss = mean_loss(model, documents, trainer.args.label_smoothing_factor)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    gradients = torch.autograd.grad(loss, list(trained.values()))
    trainer.train()
    (logged,) = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert abs(logged - loss.item()) < max(1e-4, tolerance)  # four decimals are logged
    after = dict(trainer.model.named_parameters())
    for (name, before), gradient in zip(trained.items(), gradients, strict=True):
        assert bool(gradient.any()) or name.endswith("lora_A.default.weight"), name  # those begin with zero B
        torch.testing.assert_close(
            after[name], before - RATE * gradient, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )

"""LoRA adapters: what is trained, what they merge into, and that two processes compute what one computes."""

import copy
import sys

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from longgen.config import LoraSettings
from longgen.errors import ConfigError
from longgen.training.adapters import add_adapters, base_name, merged_weight, reset_adapters
from tests.modeling.models import tiny_base, tiny_hybrid, tokens
from tests.modeling.test_families import base_of
from tests.processes import ranks

EVERYTHING = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture
def peft():
    return pytest.importorskip("peft", reason="peft is not installed: pip install 'longgen[lora]'")


def adapted(model, settings: LoraSettings):
    """With adapters that do something, as after some training."""
    add_adapters(model, settings)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def merged_state(model) -> dict[str, torch.Tensor]:
    names = [base_name(name) for name, _ in model.named_parameters()]
    return {name: merged_weight(model, name) for name in names if name is not None}


def train(model, optimizer, x) -> None:
    model(x, labels=x).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def trainable(model) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])  # plain, with biases, with norms of queries and keys
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], EVERYTHING], ids=len)
def test_merged_weights_compute_what_the_trained_adapters_do(family, targets, peft, tmp_path):
    base, model = tiny_hybrid(family), tiny_hybrid(family).train()
    add_adapters(model, LoraSettings(rank=3, alpha=4.5, targets=targets))
    x = tokens(40)
    assert torch.equal(model(x).logits, base(x).logits), "they begin as nothing"
    optimizer = torch.optim.AdamW(trainable(model), lr=0.01)
    for step in range(3):
        train(model, optimizer, tokens(40, seed=step))
    expected, state = model.eval()(x).logits, merged_state(model)
    assert not torch.allclose(expected, base(x).logits, rtol=0.1, atol=0.1)
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert state.keys() == base.state_dict().keys()
    model.save_pretrained(tmp_path, state_dict=dict(state))  # which it empties
    for merged in (base, type(base).from_pretrained(tmp_path)):
        merged.load_state_dict(state)
        torch.testing.assert_close(merged(x).logits, expected, rtol=1e-4, atol=1e-5)


def test_matrices_that_the_model_does_not_have_are_named(peft):
    names = "q_proj, k_proj: allowed are those that phi3 has: o_proj, down_proj"
    with pytest.raises(ConfigError, match=f"lora.targets has {names}"):
        add_adapters(base_of("phi3"), LoraSettings(targets=["q_proj", "k_proj", "o_proj"]))


CASES = [(True, True, False), (True, False, True), (False, True, False), (False, False, True)]


@pytest.mark.parametrize(("embeddings", "norms", "tied"), CASES)
def test_only_what_was_asked_for_is_trained(embeddings, norms, tied, peft):
    model = tiny_base("qwen3", tie_word_embeddings=tied).train()
    before = copy.deepcopy(model.state_dict())
    settings = LoraSettings(targets=["k_proj", "down_proj"], train_embeddings=embeddings, train_norms=norms)
    adapted(model, settings)
    train(model, torch.optim.SGD(trainable(model), lr=1.0), tokens(40))
    changed = {name for name, value in merged_state(model).items() if not torch.equal(value, before[name])}
    layers = [f"model.layers.{layer}." for layer in range(6)]
    wanted = {layer + name for layer in layers for name in ("self_attn.k_proj.weight", "mlp.down_proj.weight")}
    if norms:
        of_layer = ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")
        wanted |= {f"{layer}{name}.weight" for layer in layers for name in of_layer} | {"model.norm.weight"}
    if embeddings:
        wanted.add("model.embed_tokens.weight")
    assert changed == wanted
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied


def test_names_are_those_of_the_base_model(peft):
    for tied in (True, False):
        base = tiny_base("qwen2", tie_word_embeddings=tied)
        names = [name for name, _ in base.named_parameters()]
        assert [base_name(name) for name in names] == names
        adapters = adapted(copy.deepcopy(base), LoraSettings(targets=EVERYTHING))
        found = [base_name(name) for name, _ in adapters.named_parameters()]
        assert sorted(name for name in found if name) == sorted(names)
        assert found.count(None) == 2 * 6 * 7
        for name in names:
            assert torch.equal(merged_weight(base, name), base.get_parameter(name))


def test_adapters_follow_from_the_seed(peft):
    model = tiny_base().to(torch.bfloat16)
    add_adapters(model, LoraSettings(rank=4))
    drawn = []
    for seed in (1, 2, 1):
        torch.manual_seed(len(drawn))  # must not matter
        reset_adapters(model, seed)
        drawn.append({name: p.detach().clone() for name, p in model.named_parameters() if base_name(name) is None})
    first, other, again = drawn
    assert {value.dtype for value in first.values()} == {torch.float32}, "whatever the model's"
    assert all(torch.equal(first[name], again[name]) for name in first)
    downs = [name for name in first if ".lora_A." in name]
    assert not any(torch.equal(first[name], other[name]) for name in downs)
    assert not torch.equal(first[downs[0]], first[downs[1]])
    assert not any(value.any() for name, value in first.items() if name not in downs)
    # as peft draws it: uniform within 1 / sqrt(inputs)
    values = torch.cat([first[name].flatten() for name in downs])
    assert float(values.abs().max()) == pytest.approx(1 / 8, rel=1e-2)
    assert float(values.std()) == pytest.approx(1 / 8 / 3**0.5, rel=0.05)


def test_what_cannot_be_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"targets is .*lm_head.*: allowed is at least one of q_proj"):
        LoraSettings(targets=["q_proj", "lm_head"])
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"needs peft .*: allowed with `pip install 'longgen\[lora\]'`"):
        add_adapters(tiny_base(), LoraSettings())


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share_weights(rank: int, report) -> None:
    """One of two processes, which takes one of two rows; then compared with both rows in one process."""
    dist.init_process_group("gloo", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    # 3 rows of A, or 1, cannot be shared out evenly
    for settings in (LoraSettings(rank=3, targets=EVERYTHING), LoraSettings(rank=1, train_embeddings=False)):
        alone = tiny_hybrid("qwen3").train()
        add_adapters(alone, settings)
        reset_adapters(alone, 5)
        # as a large model is made: no values before it is sharded
        with torch.device("meta"):
            shared = type(alone)(alone.config).train()
        add_adapters(shared, settings)
        shared.gradient_checkpointing_enable({"use_reentrant": False})
        for module in (*shared.model.layers, shared):
            fully_shard(module, mesh=mesh)
        shared.to_empty(device="cpu")
        for buffer, value in zip(shared.buffers(), alone.buffers(), strict=True):
            buffer.copy_(value)
        for (name, parameter), value in zip(shared.named_parameters(), alone.parameters(), strict=True):
            if base_name(name) is not None:
                parameter.data.copy_(distribute_tensor(value.detach(), mesh, parameter.placements))
        reset_adapters(shared, 5)
        for (name, got), want in zip(shared.named_parameters(), alone.parameters(), strict=True):
            if not torch.equal(whole(got.detach()), want):
                report(f"{name} begins otherwise")
        optimizers = [torch.optim.AdamW(trainable(model), lr=0.01) for model in (shared, alone)]
        for step in range(2):  # A has a gradient from the second on, as B is 0 before
            x = tokens(40, seed=step)
            own = x[rank : rank + 1]
            shared(own, labels=own).loss.backward()
            alone(x, labels=x).loss.backward()
            for (name, got), want in zip(shared.named_parameters(), alone.parameters(), strict=True):
                if want.grad is None or got.grad is None:
                    if not (want.grad is got.grad is None) or want.requires_grad:
                        report(f"{name} has a gradient in one of them only, or none and should")
                    continue
                error = (whole(got.grad) - want.grad).abs().max() / want.grad.abs().max().clamp(min=1e-3)
                if not error < 1e-3:
                    report(f"step {step}: gradient of {name} is off by {error:.1e}")
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        for name, want in merged_state(alone).items():
            got = merged_weight(shared, name)
            if not torch.allclose(got, want, rtol=1e-2, atol=1e-3):
                report(f"merged {name} is off by {(got - want).abs().max():.1e}")
    report(rank)
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_that_share_the_weights_compute_what_one_computes(peft):
    assert sorted(ranks(share_weights, 2), key=str) == [0, 1]

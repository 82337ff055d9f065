"""`longgen benchmark predict`: a model's answers to the prompts of benchmarks."""

from __future__ import annotations

from longgen.cli.machine import torch_dtype, use_threads
from longgen.cli.options.benchmark import BenchmarkPredictOptions
from longgen.evaluation.baselines import read_gates
from longgen.evaluation.runs.model import attention_kernels, greedy, load_model, model_identity
from longgen.evaluation.runs.predict import predict
from longgen.evaluation.runs.prompts import choose_prompts, read_prompts
from longgen.evaluation.runs.reduced import KvBudget, greedy_with_reduced_cache, reduced_identity
from longgen.hardware import require_gpu
from longgen.names import DUO_ATTENTION, VLLM
from longgen.provenance import describe_device
from longgen.serving.vllm import engine_version, need_vllm


def benchmark_predict(options: BenchmarkPredictOptions) -> None:
    """Answer what is not answered yet, and say how much that was."""
    use_threads(options.threads)
    model, device = options.model, options.device
    require_gpu("--device", device)
    dtype = torch_dtype(options.dtype, device)
    files = [file for each in options.prompts for file in read_prompts(each)]
    files = choose_prompts(files, options.task, options.length)
    whole, kernels = model_identity(model, dtype), {}
    if options.engine == VLLM:
        need_vllm()
        from longgen.serving.vllm.answers import engine_greedy

        generate, tokenizer = engine_greedy(model, str(dtype).removeprefix("torch."))
        whole["engine"] = engine_version()
        generators, place = {options.output: (whole, generate)}, "cpu"  # where prompts are made
    else:
        loaded_model, tokenizer = load_model(model, dtype, device)
        generators, place = {options.output: (whole, greedy(loaded_model))}, device
        kernels = attention_kernels(loaded_model)
    if options.kv_method:
        budget = KvBudget.parse(options.kv_budget)
        learned_gates = None if options.kv_gates is None else read_gates(options.kv_gates, model)
        generators = {}
        for method in options.kv_method:
            gates = learned_gates if method == DUO_ATTENTION else None
            identity = whole | {"kv_reduction": reduced_identity(method, budget, gates)}
            generators[options.output / f"{method}-as-{budget.of}"] = (
                identity,
                greedy_with_reduced_cache(loaded_model, method, budget, gates),
            )
    machine = {"device": describe_device(device), "attention": kernels}
    padding, share = not options.kv_method, (options.shard, options.shards, options.batch_tokens)
    for folder, (identity, generate) in generators.items():
        answers = sum(
            predict(file, tokenizer, generate, identity, folder, *share, place, padding, machine) for file in files
        )
        print(f"{folder}: {answers:,} answers given now, by {model}")

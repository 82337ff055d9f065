"""`longgen benchmark predict`: a model's answers to the prompts of benchmarks."""

from __future__ import annotations

from longgen.cli.machine import torch_dtype, use_threads
from longgen.cli.options.benchmark import BenchmarkPredictOptions
from longgen.evaluation.baselines import read_gates
from longgen.evaluation.runs.model import greedy, load_model, model_identity
from longgen.evaluation.runs.predict import predict
from longgen.evaluation.runs.prompts import read_prompts
from longgen.evaluation.runs.reduced import KvBudget, reduced, reduced_identity
from longgen.names import VLLM
from longgen.serving.vllm import engine_version, need_vllm


def benchmark_predict(options: BenchmarkPredictOptions) -> None:
    """Answer what is not answered yet, and say how much that was."""
    use_threads(options.threads)
    device = options.device
    dtype = torch_dtype(options.dtype, device)
    files = [file for each in options.prompts for file in read_prompts(each)]
    identity = model_identity(options.model, dtype)
    if options.engine == VLLM:
        need_vllm()
        from longgen.serving.vllm.answers import engine_greedy

        generate, tokenizer = engine_greedy(options.model, str(dtype).removeprefix("torch."))
        identity["engine"], device = engine_version(), "cpu"  # where prompts are made
    else:
        model, tokenizer = load_model(options.model, dtype, device)
        generate = greedy(model)
    if options.kv_method is not None:
        budget = KvBudget.parse(options.kv_budget)
        gates = None if options.kv_gates is None else read_gates(options.kv_gates, options.model)
        identity["kv_reduction"] = reduced_identity(options.kv_method, budget, gates)
        generate = reduced(model, options.kv_method, budget, gates)
    share = (options.shard, options.shards, options.batch_tokens)
    answers = sum(predict(file, tokenizer, generate, identity, options.output, *share, device) for file in files)
    print(f"{options.output}: {answers:,} answers given now, by {options.model}")

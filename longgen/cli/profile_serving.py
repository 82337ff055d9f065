"""`longgen profile serving`: loads of requests through vLLM."""

from __future__ import annotations

from longgen.cli.options.profiling import ProfileServingOptions
from longgen.hardware import computed_dtype
from longgen.profiling.serving_speed import ServedModel, ServingSpeed
from longgen.profiling.session import Budget, Session
from longgen.results import check_run_name
from longgen.serving.vllm.load import Load
from longgen.units import seconds_of_minutes


def profile_serving(options: ProfileServingOptions) -> None:
    """Run the loads, as long as there is time, and print what the file holds."""
    model = ServedModel.read(options.model)
    kv_memory, dtype = int(options.kv_gib * 2**30), computed_dtype(options.dtype, "cpu")
    loads = []
    for text in options.load:
        length, requests = map(int, text.split("x"))
        loads.append(Load(length, options.new_tokens, requests, kv_memory, options.chunk, dtype))
    budget = Budget(seconds_of_minutes(options.minutes))
    session = Session(ServingSpeed(model), options.output, check_run_name(options.name), budget)
    session.run(loads)
    print(session.table())
    print(f"results: {session.path}")

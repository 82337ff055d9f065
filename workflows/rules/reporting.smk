from longgen import reporting
from longgen.evaluation.benchmarks import WITH_DEPTHS

# What a configuration has no part for is not made.
RESULT_FILES = {
    f"{RESULTS}/plan.json": True,
    f"{RESULTS}/corpus.json": EXPERIMENT.data,
    f"{RESULTS}/packing.json": EXPERIMENT.extension.packed,
    f"{RESULTS}/training/base.json": EXPERIMENT.base,
    f"{RESULTS}/training/{{trained}}.json": True,
    f"{RESULTS}/benchmarks/{{variant}}/scores.json": SUITES,
    f"{RESULTS}/benchmarks/full/reduced-as-{{budget}}/scores.json": BUDGETS,
    f"{RESULTS}/benchmarks/{{variant}}/perplexity.json": PERPLEXITY,
    f"{RESULTS}/benchmarks/{{variant}}/short-context.json": SHORT_CONTEXT,
    f"{RESULTS}/profile/speed.json": EXPERIMENT.profiling,
    f"{RESULTS}/profile/memory.json": EXPERIMENT.profiling,
}
RUN_RESULTS = [
    expand(
        pattern,
        variant=VARIANTS,
        trained=[name for name in VARIANTS if name in TRAINED],
        budget=BUDGETS,
    )
    for pattern, part in RESULT_FILES.items()
    if part
] + [PROBES]
# The figures of an experiment compare what was trained, asked and measured; those of benchmarks stand by themselves. What
# is asked for them is recall, or needles on the benchmark's own data.
RECALL = EXPERIMENT.recall
NEEDLES = "needle" in (RECALL.tasks or ["needle"]) if RECALL else "needle" in SUITES
COMPLETE = NEEDLES and EXPERIMENT.profiling and (RECALL or SUITES["needle"].data_root)
FOUND_REDUCED = (
    BUDGETS and ("recall" if RECALL else "needle") in BENCHMARKS.reduced_suites
)
# Benchmarks whose own averages there are: those of some tasks alone would be none.
AVERAGED = [
    name for name in SUITES if name in WITH_DEPTHS or SUITES[name].tasks is None
]
BENCHMARK_FIGURES = {
    "needle": NEEDLES,
    "ruler_by_length": "ruler" in AVERAGED,
    "ruler_tasks": "ruler" in SUITES,
    "perplexity": PERPLEXITY,
}
BENCHMARK_TABLES = {
    "benchmark_scores": SUITES,
    "benchmark_summary": AVERAGED,
    "ruler_tasks_table": "ruler" in SUITES,
    "short_context": SHORT_CONTEXT,
}
FIGURES_MADE = [
    *(reporting.FIGURE_NAMES[reporting.EXPERIMENT] if COMPLETE else ()),
    *(
        reporting.FIGURE_NAMES[reporting.REDUCTIONS]
        if COMPLETE and FOUND_REDUCED
        else ()
    ),
    *(name for name, part in BENCHMARK_FIGURES.items() if part),
    *(reporting.FIGURE_NAMES[reporting.PROBE] if PROBES else ()),
]
TABLES_MADE = [
    *(reporting.TABLES[reporting.EXPERIMENT] if COMPLETE else ()),
    *(reporting.TABLES[reporting.REDUCTIONS] if COMPLETE and FOUND_REDUCED else ()),
    *(name for name, part in BENCHMARK_TABLES.items() if part),
]


rule run_figures:
    input:
        RUN_RESULTS,
    output:
        [in_report(name, "png", "Figures") for name in FIGURES_MADE],
        [in_report(name, "html", "Tables") for name in TABLES_MADE],
        expand(
            f"{FIGURES}/{{name}}.{{suffix}}", name=FIGURES_MADE, suffix=["pdf", "csv"]
        ),
        expand(f"{FIGURES}/{{name}}.{{suffix}}", name=TABLES_MADE, suffix=["csv", "md"]),
    log:
        f"{ARTIFACTS}/logs/figures.log",
    params:
        run=RUN,
    shell:
        "longgen figures {params.run} --html 2> >(tee {log} >&2)"


# No output files: always redraws everything below paper_figures/published, docs/results.md and the tables in pages.
rule figures:
    log:
        "artifacts/logs/published-figures.log",
    shell:
        "longgen figures --all-published --page docs/results.md --tables-in README.md"
        " --tables-in docs/small-scale.md --tables-in docs/smollm2.md"
        " --tables-in docs/results-format.md 2> >(tee {log} >&2)"

from pathlib import Path

from longgen.reporting import FIGURE_NAMES, REDUCTION_TABLE_NAMES, TABLE_NAMES

TABLES = TABLE_NAMES + (REDUCTION_TABLE_NAMES if BUDGETS else ())
# What a configuration has no part for is not made.
WANTED = {
    f"{RESULTS}/plan.json": True,
    f"{RESULTS}/corpus.json": EXPERIMENT.data,
    f"{RESULTS}/packing.json": EXPERIMENT.extension.packed,
    f"{RESULTS}/training/base.json": EXPERIMENT.base,
    f"{RESULTS}/training/{{variant}}.json": True,
    f"{RESULTS}/evaluation/{{variant}}/retrieval.json": EXPERIMENT.evaluation,
    f"{RESULTS}/evaluation/{{variant}}/perplexity.json": EXPERIMENT.evaluation,
    f"{RESULTS}/profile/speed.json": EXPERIMENT.profiling,
    f"{RESULTS}/profile/memory.json": EXPERIMENT.profiling,
}
RUN_RESULTS = [
    expand(pattern, variant=VARIANTS) for pattern, part in WANTED.items() if part
]
RUN_RESULTS += expand(f"{RESULTS}/kv-reduction/{{variant}}.json", variant=BUDGETS)
# The figures compare what was trained, evaluated and measured.
COMPLETE = EXPERIMENT.base and EXPERIMENT.evaluation and EXPERIMENT.profiling


rule run_figures:
    input:
        RUN_RESULTS,
    output:
        report(expand(f"{FIGURES}/{{name}}.png", name=FIGURE_NAMES), category="Figures"),
        expand(
            f"{FIGURES}/{{name}}.{{suffix}}", name=FIGURE_NAMES, suffix=["pdf", "csv"]
        ),
        report(expand(f"{FIGURES}/{{name}}.csv", name=TABLES), category="Tables"),
        expand(f"{FIGURES}/{{name}}.md", name=TABLES),
    log:
        f"{ARTIFACTS}/logs/figures.log",
    params:
        run=RUN,
    shell:
        "longgen figures {params.run} 2> >(tee {log} >&2)"


# No output files: always redraws everything below paper_figures/published from results/published, and nothing else.
rule figures:
    log:
        "artifacts/logs/published-figures.log",
    shell:
        "longgen figures --all-published 2> >(tee {log} >&2)"

from pathlib import Path

from longgen.reporting import FIGURE_NAMES, TABLE_NAMES

RUN_RESULTS = [
    f"{RESULTS}/plan.json",
    f"{RESULTS}/corpus.json",
    f"{RESULTS}/training/base.json",
    f"{RESULTS}/profile/speed.json",
    f"{RESULTS}/profile/memory.json",
    expand(f"{RESULTS}/training/{{variant}}.json", variant=VARIANTS),
    expand(
        f"{RESULTS}/evaluation/{{variant}}/{{kind}}.json",
        variant=VARIANTS,
        kind=["retrieval", "perplexity"],
    ),
]


rule run_figures:
    input:
        RUN_RESULTS,
    output:
        report(expand(f"{FIGURES}/{{name}}.png", name=FIGURE_NAMES), category="Figures"),
        expand(
            f"{FIGURES}/{{name}}.{{suffix}}", name=FIGURE_NAMES, suffix=["pdf", "csv"]
        ),
        report(expand(f"{FIGURES}/{{name}}.csv", name=TABLE_NAMES), category="Tables"),
        expand(f"{FIGURES}/{{name}}.md", name=TABLE_NAMES),
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

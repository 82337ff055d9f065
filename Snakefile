"""LongGen, end to end: data, base model, conversion, context extension, evaluation, profiling, figures.

snakemake --cores all                                   the smoke run (config/smoke.yaml)
snakemake --cores all --config select=all               the same with every variant: the whole ablation
snakemake --cores all --config experiment=my.yaml       another configuration
snakemake --cores all --config setup=NAME               another of its set-ups of processes for training
snakemake --cores all --profile slurm                   the same as jobs of Slurm, from the login node of a cluster
snakemake --cores all --report report.html              a finished run as one page to browse offline
snakemake --cores all figures                           redraw every published figure from its tracked results
"""

from snakemake.utils import min_version

min_version("9.6")


# What `--report` says of the whole run; what it says of a figure or table is beside it.
report: "workflows/report/workflow.rst"


include: "workflows/rules/common.smk"
include: "workflows/rules/data.smk"
include: "workflows/rules/training.smk"
include: "workflows/rules/benchmarks.smk"
include: "workflows/rules/profiling.smk"
include: "workflows/rules/reporting.smk"


localrules:
    all,
    plan,
    score,
    score_reduced,
    run_figures,
    figures,


rule all:
    default_target: True
    input:
        rules.run_figures.output if FIGURES_MADE or TABLES_MADE else RUN_RESULTS,

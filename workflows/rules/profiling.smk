from longgen.planner.experiment import experiment_lengths


rule plan:
    input:
        PROBES,
    output:
        f"{RESULTS}/plan.json",
    log:
        f"{ARTIFACTS}/logs/plan.log",
    params:
        config=CONFIG,
        settings=settings("model", "patterns", "variants", "profiling"),
        dtype=BENCHMARKS and BENCHMARKS.dtype,
        lengths=(EXPERIMENT.base_length, *experiment_lengths(EXPERIMENT)),
        probes=options(probe=PROBES),
    shell:
        "longgen plan --config {params.config} --output {output} {params.probes} 2> >(tee {log} >&2)"


# Reserves every core of this invocation, and on Slurm the node, so that nothing runs beside it; measures on those of `profiling.threads`.
rule profile:
    output:
        speed=f"{RESULTS}/profile/speed.json",
        memory=f"{RESULTS}/profile/memory.json",
    log:
        f"{ARTIFACTS}/logs/profile.log",
    threads: workflow.cores
    resources:
        **job_resources("profile"),
    params:
        config=CONFIG,
        settings=settings("model", "profiling"),
        variants=[f"--variant {name}" for name in VARIANTS],
        resolved=[variant_settings(name) for name in VARIANTS],
        folder=subpath(output.speed, parent=True),
    shell:
        "longgen profile {params.config} {params.variants} --output {params.folder} 2> >(tee {log} >&2)"

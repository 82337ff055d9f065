rule evaluate:
    input:
        model=rules.extend.output.model,
        corpus=rules.corpus.output.manifest,
    output:
        retrieval=f"{RESULTS}/evaluation/{{variant}}/retrieval.json",
        perplexity=f"{RESULTS}/evaluation/{{variant}}/perplexity.json",
    log:
        f"{ARTIFACTS}/logs/evaluate-{{variant}}.log",
    threads: 1
    resources:
        **job_resources("evaluate"),
    params:
        config=CONFIG,
        settings=settings("evaluation", "seed"),
        corpus=subpath(input.corpus, parent=True),
        folder=subpath(output.retrieval, parent=True),
    shell:
        "longgen evaluate {params.config} --variant {wildcards.variant} --model {input.model}"
        " --corpus {params.corpus} --output {params.folder} --threads {resources.cpus} 2> >(tee {log} >&2)"


# What DuoAttention learns on the full model.
rule gates:
    input:
        model=f"{ARTIFACTS}/models/full",
        corpus=rules.corpus.output.manifest,
    output:
        f"{ARTIFACTS}/gates.json",
    log:
        f"{ARTIFACTS}/logs/gates.log",
    # its reductions take longer than an evaluation: not last
    priority: 1
    threads: 1
    resources:
        **job_resources("gates"),
    params:
        config=CONFIG,
        settings=fingerprint(
            [
                str(REDUCTION and REDUCTION.duo_attention),
                EXPERIMENT.evaluation and EXPERIMENT.evaluation.dtype,
                settings("patterns", "seed"),
            ]
        ),
        corpus=subpath(input.corpus, parent=True),
    shell:
        "longgen gates {params.config} --model {input.model} --corpus {params.corpus} --output {output}"
        " --threads {resources.cpus} 2> >(tee {log} >&2)"


# The full model with its KV cache reduced at inference, to the bytes of a hybrid. All methods in one process: starting
# takes about as long as one of them.
rule reduce_kv:
    input:
        model=f"{ARTIFACTS}/models/full",
        corpus=rules.corpus.output.manifest,
        gates=(
            rules.gates.output
            if REDUCTION and DUO_ATTENTION in REDUCTION.methods
            else []
        ),
    output:
        f"{RESULTS}/kv-reduction/{{variant}}.json",
    log:
        f"{ARTIFACTS}/logs/kv-reduction-{{variant}}.log",
    priority: 1
    threads: 1
    resources:
        **job_resources("reduce_kv"),
    params:
        config=CONFIG,
        settings=settings("evaluation", "seed"),
        budget=lambda wildcards: variant_settings(wildcards.variant),
        gates=lambda wildcards, input: f"--gates {input.gates}" if input.gates else "",
        corpus=subpath(input.corpus, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "longgen evaluate {params.config} --variant full --kv-budget-of {wildcards.variant} {params.gates}"
        " --model {input.model} --corpus {params.corpus} --output {params.folder} --threads {resources.cpus}"
        " 2> >(tee {log} >&2)"

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
    params:
        config=CONFIG,
        settings=settings("evaluation", "seed"),
        corpus=subpath(input.corpus, parent=True),
        folder=subpath(output.retrieval, parent=True),
    shell:
        "longgen evaluate {params.config} --variant {wildcards.variant} --model {input.model}"
        " --corpus {params.corpus} --output {params.folder} --threads {threads} 2> >(tee {log} >&2)"


# The full model with its KV cache reduced at inference, to the bytes of a hybrid.
rule reduce_kv:
    input:
        model=f"{ARTIFACTS}/models/full",
        corpus=rules.corpus.output.manifest,
    output:
        f"{RESULTS}/kv-reduction/{{method}}.json",
    log:
        f"{ARTIFACTS}/logs/kv-reduction-{{method}}.log",
    threads: 1
    params:
        config=CONFIG,
        settings=settings("evaluation", "seed"),
        budget=lambda wildcards: variant_settings(
            EXPERIMENT.evaluation.kv_reduction.budget_of
        ),
        corpus=subpath(input.corpus, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "longgen evaluate {params.config} --variant full --kv-reduction {wildcards.method} --model {input.model}"
        " --corpus {params.corpus} --output {params.folder} --threads {threads} 2> >(tee {log} >&2)"

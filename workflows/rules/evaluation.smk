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

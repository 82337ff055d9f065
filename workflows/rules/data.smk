rule corpus:
    output:
        manifest=f"{ARTIFACTS}/corpus/manifest.json",
        tokenizer=f"{ARTIFACTS}/corpus/tokenizer/tokenizer.json",
        result=f"{RESULTS}/corpus.json",
    log:
        f"{ARTIFACTS}/logs/corpus.log",
    resources:
        **job_resources("corpus"),
    params:
        config=CONFIG,
        folder=subpath(output.manifest, parent=True),
        settings=settings("data"),
    shell:
        "longgen prepare {params.config} --stage corpus --output {params.folder} --result {output.result}"
        " 2> >(tee {log} >&2)"


# For an extension that reads packed rows; what it had done when it was interrupted stays.
rule pack:
    input:
        EXPERIMENT.extension.packed or [],
    output:
        manifest=f"{ARTIFACTS}/packed/manifest.json",
        result=f"{RESULTS}/packing.json",
    log:
        f"{ARTIFACTS}/logs/pack.log",
    threads: workflow.cores
    resources:
        **job_resources("pack"),
    params:
        folder=subpath(output.manifest, parent=True),
    shell:
        "longgen pack {input} --output {params.folder} --result {output.result} --workers {resources.cpus}"
        " 2> >(tee {log} >&2)"


rule rows:
    input:
        rules.corpus.output.manifest,
    output:
        f"{ARTIFACTS}/rows/{{stage}}/manifest.json",
    log:
        f"{ARTIFACTS}/logs/rows-{{stage}}.log",
    resources:
        **job_resources("rows"),
    params:
        config=CONFIG,
        corpus=subpath(input[0], parent=True),
        folder=subpath(output[0], parent=True),
        settings=lambda wildcards: settings(wildcards.stage, "seed"),
    shell:
        "longgen prepare {params.config} --stage {wildcards.stage} --corpus {params.corpus}"
        " --output {params.folder} 2> >(tee {log} >&2)"

rule base:
    input:
        rows=f"{ARTIFACTS}/rows/base/manifest.json",
        tokenizer=rules.corpus.output.tokenizer,
    output:
        model=f"{ARTIFACTS}/base/model.safetensors",
        result=f"{RESULTS}/training/base.json",
    log:
        f"{ARTIFACTS}/logs/base.log",
    threads: 2
    params:
        config=CONFIG,
        checkpoint=f"{ARTIFACTS}/checkpoints/base",
        settings=settings("model", "base", "seed"),
        rows=subpath(input.rows, parent=True),
        tokenizer=subpath(input.tokenizer, parent=True),
        folder=subpath(output.model, parent=True),
    shell:
        "longgen train {params.config} --stage base --rows {params.rows} --tokenizer {params.tokenizer}"
        " --output {params.folder} --result {output.result} --checkpoint {params.checkpoint}"
        " --threads {threads} 2> >(tee {log} >&2)"


rule convert:
    input:
        rules.base.output.model,
    output:
        temp(f"{ARTIFACTS}/converted/{{variant}}/model.safetensors"),
    log:
        f"{ARTIFACTS}/logs/convert-{{variant}}.log",
    params:
        config=CONFIG,
        # of the extension only what conversion writes into the model's config
        rope=(
            EXPERIMENT.extension.rope,
            EXPERIMENT.extension.rope_theta,
            EXPERIMENT.extension.max_length,
        ),
        variant=lambda wildcards: variant_settings(wildcards.variant),
        source=subpath(input[0], parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "longgen convert {params.source} {params.folder} --config {params.config}"
        " --variant {wildcards.variant} --overwrite 2> >(tee {log} >&2)"


# One thread each: two variants side by side use two cores better than one after the other with two threads.
rule extend:
    input:
        rows=f"{ARTIFACTS}/rows/extension/manifest.json",
        model=rules.convert.output[0],
    output:
        model=f"{ARTIFACTS}/models/{{variant}}/model.safetensors",
        result=f"{RESULTS}/training/{{variant}}.json",
    log:
        f"{ARTIFACTS}/logs/extend-{{variant}}.log",
    threads: 1
    params:
        config=CONFIG,
        checkpoint=f"{ARTIFACTS}/checkpoints/{{variant}}",
        settings=settings("extension"),
        rows=subpath(input.rows, parent=True),
        source=subpath(input.model, parent=True),
        folder=subpath(output.model, parent=True),
    shell:
        "longgen train {params.config} --stage extension --variant {wildcards.variant} --rows {params.rows}"
        " --model {params.source} --output {params.folder} --result {output.result}"
        " --checkpoint {params.checkpoint} --threads {threads} 2> >(tee {log} >&2)"

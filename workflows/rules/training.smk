rule base:
    input:
        rows=f"{ARTIFACTS}/rows/base/manifest.json",
        tokenizer=rules.corpus.output.tokenizer,
    output:
        model=directory(f"{ARTIFACTS}/base"),
        result=f"{RESULTS}/training/base.json",
    log:
        f"{ARTIFACTS}/logs/base.log",
    priority: 1  # all else but the profile, which wants every core, waits for it
    # models that are trained from scratch here are small: a second thread that sleeps while it waits makes a step of the
    # smoke run slower (0.43 s instead of 0.25 s on two idle cores of an AMD EPYC)
    threads: 1
    # the set-up is a resource and no param: by which processes a model was trained is no reason to train it again
    resources:
        **job_resources("base"),
        setup=SETUP,
    params:
        config=CONFIG,
        checkpoint=f"{ARTIFACTS}/checkpoints/base",
        metrics=f"{ARTIFACTS}/metrics/base",
        settings=settings("model", "base", "seed"),
        rows=subpath(input.rows, parent=True),
        tokenizer=subpath(input.tokenizer, parent=True),
    shell:
        "python -m longgen.training.launch --cpus-per-task {resources.cpus} {params.config} --stage base"
        " --setup {resources.setup} --rows {params.rows} --tokenizer {params.tokenizer} --output {output.model} --result {output.result}"
        " --checkpoint {params.checkpoint} --metrics {params.metrics} --threads {resources.cpus} 2> >(tee {log} >&2)"


CHECKPOINT = EXPERIMENT.model.checkpoint


# Which layers of the base model need full attention; an interrupted one goes on where it was.
rule probe:
    input:
        [] if CHECKPOINT else rules.base.output.model,
    output:
        f"{RESULTS}/probe{{heads}}.json",
    log:
        f"{ARTIFACTS}/logs/probe{{heads}}.log",
    threads: 2
    resources:
        **job_resources("probe"),
    params:
        config=CONFIG,
        settings=settings("model", "probe", "patterns", "seed"),
        source=lambda wildcards, input: CHECKPOINT or input[0],
        by=lambda wildcards: BY[PROBED + wildcards.heads],
        layouts=f"{ARTIFACTS}/layouts",
        results=Path(RESULTS).parent,
    shell:
        "longgen probe {params.source} --config {params.config} --by {params.by} --output {params.results}"
        " --layouts {params.layouts} --threads {resources.cpus} 2> >(tee {log} >&2)"


rule convert:
    input:
        model=[] if CHECKPOINT else rules.base.output.model,
        probe=probe_of,
    output:
        temp(directory(f"{ARTIFACTS}/converted/{{variant}}")),
    log:
        f"{ARTIFACTS}/logs/convert-{{variant}}.log",
    resources:
        **job_resources("convert"),
    params:
        config=CONFIG,
        # of the extension only what conversion writes into the model's config
        rope=(
            EXPERIMENT.extension.rope,
            EXPERIMENT.extension.rope_theta,
            EXPERIMENT.extension.max_length,
        ),
        variant=lambda wildcards: variant_settings(wildcards.variant),
        source=lambda wildcards, input: CHECKPOINT or input.model,
        probe=lambda wildcards, input: options(probe=input.probe or None),
        # of a checkpoint the weights are kept in the dtype that computes
        dtype=f"--dtype {EXPERIMENT.extension.dtype}" if CHECKPOINT else "",
    shell:
        "longgen convert {params.source} {output} --config {params.config}"
        " --variant {wildcards.variant} {params.dtype} {params.probe} --overwrite 2> >(tee {log} >&2)"


# What a layout costs without any training.
use rule convert as untrained with:
    output:
        directory(f"{ARTIFACTS}/models/{{variant}}"),
    log:
        f"{ARTIFACTS}/logs/untrained-{{variant}}.log",
    wildcard_constraints:
        # where all are trained: no name at all
        variant="|".join(name for name in EXPERIMENT.variants if name not in TRAINED)
        or "(?!)",
    resources:
        **job_resources("untrained"),


# One thread each: two variants side by side use two cores better than one after the other with two threads.
rule extend:
    input:
        rows=(
            rules.pack.output.manifest
            if EXPERIMENT.extension.packed
            else f"{ARTIFACTS}/rows/extension/manifest.json"
        ),
        model=rules.convert.output[0],
    output:
        model=directory(f"{ARTIFACTS}/models/{{variant}}"),
        result=f"{RESULTS}/training/{{variant}}.json",
    log:
        f"{ARTIFACTS}/logs/extend-{{variant}}.log",
    wildcard_constraints:
        variant="|".join(TRAINED) or "(?!)",
    # before evaluations that could run: the last one to be extended would keep one core waiting
    priority: 1
    threads: 1
    resources:
        **job_resources("extend"),
        setup=SETUP,
    params:
        config=CONFIG,
        checkpoint=f"{ARTIFACTS}/checkpoints/{{variant}}",
        metrics=f"{ARTIFACTS}/metrics/{{variant}}",
        settings=settings("extension"),
        rows=subpath(input.rows, parent=True),
    shell:
        "python -m longgen.training.launch --cpus-per-task {resources.cpus} {params.config} --stage extension"
        " --setup {resources.setup} --variant {wildcards.variant} --rows {params.rows} --model {input.model}"
        " --output {output.model} --result {output.result} --checkpoint {params.checkpoint}"
        " --metrics {params.metrics} --threads {resources.cpus} 2> >(tee {log} >&2)"

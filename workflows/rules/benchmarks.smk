"""Benchmarks by their own rules: prompts are made once, every model answers all of them, and answers are scored apart."""

from longgen.names import DUO_ATTENTION, KV_REDUCTIONS

BENCHMARKS = EXPERIMENT.benchmarks
SUITES = BENCHMARKS.suites if BENCHMARKS else {}
LONG_TEXT = BENCHMARKS and BENCHMARKS.long_text
SHORT_CONTEXT = BENCHMARKS and BENCHMARKS.short_context
SHARDS = range(BENCHMARKS.shards if BENCHMARKS else 0)
# (method, budget) of the full model with its KV cache reduced, for the budgets of variants of this invocation.
REDUCED = (
    [
        f"{method}-as-{budget}"
        for method in BENCHMARKS.kv_reduction.methods
        for budget in BENCHMARKS.kv_reduction.budgets_of
        if budget in VARIANTS
    ]
    if BENCHMARKS and BENCHMARKS.kv_reduction
    else []
)
INDEXES = expand(f"{ARTIFACTS}/prompts/{{suite}}.json", suite=SUITES)
REDUCED_INDEXES = expand(
    f"{ARTIFACTS}/prompts/{{suite}}.json",
    suite=BENCHMARKS.reduced_suites if BENCHMARKS else [],
)


# What is there, made from the same, is kept: another length makes prompts of that length alone.
rule prompts:
    input:
        [] if CHECKPOINT else rules.corpus.output.tokenizer,
    output:
        f"{ARTIFACTS}/prompts/{{suite}}.json",
    log:
        f"{ARTIFACTS}/logs/prompts-{{suite}}.log",
    wildcard_constraints:
        suite="|".join(SUITES) or "none",
    resources:
        **job_resources("prompts"),
    params:
        folder=subpath(output[0], parent=True),
        tokenizer=lambda wildcards, input: CHECKPOINT or Path(input[0]).parent,
        asked=lambda wildcards: options(
            length=SUITES[wildcards.suite].lengths,
            task=SUITES[wildcards.suite].tasks,
            samples=SUITES[wildcards.suite].samples,
            depth=SUITES[wildcards.suite].depths,
            data_root=SUITES[wildcards.suite].data_root,
            seed=EXPERIMENT.seed,
        ),
    shell:
        "longgen benchmark prepare {wildcards.suite} --tokenizer {params.tokenizer} {params.asked}"
        " --output {params.folder} --index {output} 2> >(tee {log} >&2)"


COMPUTING = (
    options(dtype=BENCHMARKS.dtype, device=BENCHMARKS.device) if BENCHMARKS else ""
)


# All benchmarks in one process: it starts and loads the model once. Answers that are there stay, and so they are no
# output that Snakemake would delete; `longgen benchmark predict` knows which are still good.
rule answer:
    input:
        model=rules.extend.output.model,
        prompts=INDEXES,
    output:
        touch(f"{ARTIFACTS}/answers/{{variant}}/shard-{{shard}}.done"),
    log:
        f"{ARTIFACTS}/logs/answer-{{variant}}-{{shard}}.log",
    threads: 1
    resources:
        **job_resources("answer"),
    params:
        folder=subpath(output[0], parent=True),
        shards=len(SHARDS),
        computing=options(batch_tokens=BENCHMARKS.batch_tokens) if BENCHMARKS else "",
        dtype=COMPUTING,
        prompts=lambda wildcards, input: options(prompts=list(input.prompts)),
    shell:
        "longgen benchmark predict {input.model} {params.prompts} --output {params.folder}"
        " --shard {wildcards.shard} --shards {params.shards} {params.computing} {params.dtype}"
        " --threads {resources.cpus} 2> >(tee {log} >&2)"


# What DuoAttention learns on the full model, on pass keys in its own tokens.
rule passkey_gates:
    input:
        f"{ARTIFACTS}/models/full",
    output:
        f"{ARTIFACTS}/passkey-gates.json",
    log:
        f"{ARTIFACTS}/logs/passkey-gates.log",
    threads: 1
    resources:
        **job_resources("passkey_gates"),
    params:
        config=CONFIG,
        settings=fingerprint(
            [
                str(
                    BENCHMARKS
                    and BENCHMARKS.kv_reduction
                    and BENCHMARKS.kv_reduction.duo_attention
                ),
                settings("patterns", "seed"),
            ]
        ),
    shell:
        "longgen gates {params.config} --model {input} --output {output} --threads {resources.cpus} 2> >(tee {log} >&2)"


# The full model, asked the same with its KV cache reduced at inference to the bytes of a hybrid.
rule answer_reduced:
    input:
        model=f"{ARTIFACTS}/models/full",
        hybrid=f"{ARTIFACTS}/models/{{budget}}",
        prompts=REDUCED_INDEXES,
        gates=lambda wildcards: (
            rules.passkey_gates.output if wildcards.method == DUO_ATTENTION else []
        ),
    output:
        touch(
            f"{ARTIFACTS}/answers-reduced/{{method}}-as-{{budget}}/shard-{{shard}}.done"
        ),
    log:
        f"{ARTIFACTS}/logs/answer-{{method}}-as-{{budget}}-{{shard}}.log",
    wildcard_constraints:
        method="|".join(KV_REDUCTIONS),
        budget="|".join(EXPERIMENT.variants),
    threads: 1
    resources:
        **job_resources("answer_reduced"),
    params:
        folder=subpath(output[0], parent=True),
        shards=len(SHARDS),
        dtype=COMPUTING,
        gates=lambda wildcards, input: (
            f"--kv-gates {input.gates}" if input.gates else ""
        ),
        prompts=lambda wildcards, input: options(prompts=list(input.prompts)),
    shell:
        "longgen benchmark predict {input.model} {params.prompts} --output {params.folder}"
        " --kv-method {wildcards.method} --kv-budget {input.hybrid} {params.gates}"
        " --shard {wildcards.shard} --shards {params.shards} {params.dtype}"
        " --threads {resources.cpus} 2> >(tee {log} >&2)"


rule score:
    input:
        answers=expand(
            f"{ARTIFACTS}/answers/{{variant}}/shard-{{shard}}.done",
            shard=SHARDS,
            allow_missing=True,
        ),
        prompts=INDEXES,
    output:
        scores=f"{RESULTS}/benchmarks/{{variant}}/scores.json",
        summary=f"{RESULTS}/benchmarks/{{variant}}/summary.json",
    log:
        f"{ARTIFACTS}/logs/score-{{variant}}.log",
    params:
        run=RUN,
        variant=lambda wildcards: wildcards.get("variant", "full"),
        answers=lambda wildcards, input: Path(input.answers[0]).parent,
        folder=subpath(output.scores, parent=True),
        prompts=lambda wildcards, input: options(prompts=list(input.prompts)),
    shell:
        "longgen benchmark score {params.prompts} --answers {params.answers} --output {params.folder}"
        " --run {params.run} --variant {params.variant} 2> >(tee {log} >&2)"


use rule score as score_reduced with:
    input:
        answers=expand(
            f"{ARTIFACTS}/answers-reduced/{{reduced}}/shard-{{shard}}.done",
            shard=SHARDS,
            allow_missing=True,
        ),
        prompts=REDUCED_INDEXES,
    output:
        scores=f"{RESULTS}/benchmarks/full/{{reduced}}/scores.json",
        summary=f"{RESULTS}/benchmarks/full/{{reduced}}/summary.json",
    log:
        f"{ARTIFACTS}/logs/score-{{reduced}}.log",


rule long_text:
    input:
        model=rules.extend.output.model,
    output:
        f"{RESULTS}/benchmarks/{{variant}}/long-text.json",
    log:
        f"{ARTIFACTS}/logs/long-text-{{variant}}.log",
    threads: 1
    resources:
        **job_resources("long_text"),
    params:
        run=RUN,
        dtype=COMPUTING,
        asked=(options(**vars(LONG_TEXT), seed=EXPERIMENT.seed) if LONG_TEXT else ""),
    shell:
        "longgen perplexity {input.model} {params.asked} {params.dtype} --result {output} --run {params.run}"
        " --variant {wildcards.variant} --threads {resources.cpus} 2> >(tee {log} >&2)"


rule short_context:
    input:
        model=rules.extend.output.model,
    output:
        f"{RESULTS}/benchmarks/{{variant}}/short-context.json",
    log:
        f"{ARTIFACTS}/logs/short-context-{{variant}}.log",
    threads: 1
    resources:
        **job_resources("short_context"),
    params:
        run=RUN,
        dtype=COMPUTING,
        asked=(
            options(
                task=SHORT_CONTEXT.tasks,
                limit=SHORT_CONTEXT.limit,
                data_root=SHORT_CONTEXT.data_root,
                batch_size=SHORT_CONTEXT.batch_size,
            )
            if SHORT_CONTEXT
            else ""
        ),
    shell:
        "longgen short-context {input.model} {params.asked} {params.dtype} --result {output} --run {params.run}"
        " --variant {wildcards.variant} --threads {resources.cpus} 2> >(tee {log} >&2)"

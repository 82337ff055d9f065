"""Benchmarks by their own rules: prompts are made once, every model answers all of them, and answers are scored apart."""

from longgen.names import DUO_ATTENTION

BENCHMARKS = EXPERIMENT.benchmarks
SUITES = BENCHMARKS.suites if BENCHMARKS else {}
PERPLEXITY = BENCHMARKS and BENCHMARKS.perplexity
SHORT_CONTEXT = BENCHMARKS and BENCHMARKS.short_context
REDUCTION = BENCHMARKS and BENCHMARKS.kv_reduction
SHARDS = range(BENCHMARKS.shards if BENCHMARKS else 0)
REDUCED_SHARDS = range(BENCHMARKS.reduced_shards if BENCHMARKS else 0)
# The hybrids of this invocation to whose bytes the full model's KV cache is reduced.
BUDGETS = [name for name in VARIANTS if REDUCTION and name in REDUCTION.budgets_of]
INDEXES = expand(f"{ARTIFACTS}/prompts/{{suite}}.json", suite=SUITES)
REDUCED_INDEXES = expand(
    f"{ARTIFACTS}/prompts/{{suite}}.json",
    suite=BENCHMARKS.reduced_suites if BENCHMARKS else [],
)
CORPUS = f"{ARTIFACTS}/corpus"


# What is there, made from the same, is kept: another length makes prompts of that length alone.
rule prompts:
    input:
        [] if CHECKPOINT else rules.corpus.output.manifest,
    output:
        f"{ARTIFACTS}/prompts/{{suite}}.json",
    log:
        f"{ARTIFACTS}/logs/prompts-{{suite}}.log",
    wildcard_constraints:
        suite="|".join(SUITES) or "none",
    # every model waits for them
    priority: 1
    resources:
        **job_resources("prompts"),
    params:
        folder=subpath(output[0], parent=True),
        tokenizer=CHECKPOINT or f"{CORPUS}/tokenizer",
        asked=lambda wildcards: options(
            length=SUITES[wildcards.suite].lengths,
            task=SUITES[wildcards.suite].tasks,
            samples=SUITES[wildcards.suite].samples,
            task_samples=[
                f"{task}={count}"
                for task, count in SUITES[wildcards.suite].task_samples.items()
            ],
            depth=SUITES[wildcards.suite].depths,
            data_root=(
                CORPUS
                if wildcards.suite == "recall"
                else SUITES[wildcards.suite].data_root
            ),
            seed=EXPERIMENT.seed,
        ),
    shell:
        "longgen benchmark prepare {wildcards.suite} --tokenizer {params.tokenizer} {params.asked}"
        " --output {params.folder} --index {output} 2> >(tee {log} >&2)"


COMPUTING = (
    options(dtype=BENCHMARKS.dtype, device=BENCHMARKS.device) if BENCHMARKS else ""
)
BATCHES = options(batch_tokens=BENCHMARKS.batch_tokens) if BENCHMARKS else ""


# Perplexity is of the run's own text, where it has one and no other is asked for.
OWN_TEXT = PERPLEXITY and PERPLEXITY.text is None and not CHECKPOINT
POSITIONS = (
    options(
        **vars(PERPLEXITY) | ({"text": CORPUS} if OWN_TEXT else {}),
        seed=EXPERIMENT.seed,
    )
    if PERPLEXITY
    else ""
)
MEASURED = f"{RESULTS}/benchmarks/{{variant}}/perplexity.json"
MEASURE = (
    "perplexity {input.model} {params.positions} {params.dtype} --result {params.measured} --run {params.run}"
    " --variant {wildcards.variant} --threads {resources.cpus}"
)
# Where nothing is sharded, what answers measures perplexity as well, in the same process: starting one takes as long as
# a small model's perplexity.
TOGETHER = bool(SUITES and PERPLEXITY) and len(SHARDS) == 1
ANSWERED = (
    f"{ARTIFACTS}/answers/{{variant}}/shard-{'0' if TOGETHER else '{shard}'}.done"
)


# All benchmarks in one process: it starts and loads the model once. Answers that are there stay, and so they are no
# output that Snakemake would delete; `longgen benchmark predict` knows which are still good.
rule answer:
    input:
        model=rules.extend.output.model,
        prompts=INDEXES,
        corpus=rules.corpus.output.manifest if TOGETHER and OWN_TEXT else [],
    output:
        touch(ANSWERED),
        *([MEASURED] if TOGETHER else []),
    log:
        f"{ARTIFACTS}/logs/answer-{{variant}}{'' if TOGETHER else '-{shard}'}.log",
    threads: 1
    resources:
        **job_resources("answer"),
    params:
        run=RUN,
        folder=subpath(output[0], parent=True),
        shard=lambda wildcards: wildcards.get("shard", 0),
        shards=len(SHARDS),
        batches=BATCHES,
        dtype=COMPUTING,
        prompts=lambda wildcards, input: options(prompts=list(input.prompts)),
        positions=POSITIONS if TOGETHER else "",
        measured=lambda wildcards: MEASURED.format(variant=wildcards.variant),
    shell:
        "longgen benchmark predict {input.model} {params.prompts} --output {params.folder}"
        " --shard {params.shard} --shards {params.shards} {params.batches} {params.dtype}"
        " --threads {resources.cpus}"
        + (f" --then {MEASURE}" if TOGETHER else "")
        + " 2> >(tee {log} >&2)"


rule perplexity:
    input:
        model=rules.extend.output.model,
        corpus=rules.corpus.output.manifest if OWN_TEXT else [],
    output:
        MEASURED,
    log:
        f"{ARTIFACTS}/logs/perplexity-{{variant}}.log",
    wildcard_constraints:
        variant="(?!)" if TOGETHER else "|".join(EXPERIMENT.variants),
    threads: 1
    resources:
        **job_resources("perplexity"),
    params:
        run=RUN,
        dtype=COMPUTING,
        positions=POSITIONS,
        measured=lambda wildcards: MEASURED.format(variant=wildcards.variant),
    shell:
        f"longgen {MEASURE}" + " 2> >(tee {log} >&2)"


# What DuoAttention learns on the full model: on the text of a model of bytes, else on pass keys.
rule gates:
    input:
        model=f"{ARTIFACTS}/models/full",
        corpus=rules.corpus.output.manifest if EXPERIMENT.recall else [],
    output:
        f"{ARTIFACTS}/gates.json",
    log:
        f"{ARTIFACTS}/logs/gates.log",
    # its reductions take longer than the answers of a variant: not last
    priority: 1
    threads: 1
    resources:
        **job_resources("gates"),
    params:
        config=CONFIG,
        settings=fingerprint(
            [
                str(REDUCTION and REDUCTION.duo_attention),
                BENCHMARKS and BENCHMARKS.dtype,
                settings("patterns", "seed"),
            ]
        ),
        corpus=options(corpus=CORPUS if EXPERIMENT.recall else None),
    shell:
        "longgen gates {params.config} --model {input.model} {params.corpus} --output {output}"
        " --threads {resources.cpus} 2> >(tee {log} >&2)"


# The full model, asked the same with its KV cache reduced at inference to the bytes of a hybrid. All methods in one
# process: starting takes about as long as one of them.
rule answer_reduced:
    input:
        model=f"{ARTIFACTS}/models/full",
        hybrid=f"{ARTIFACTS}/models/{{budget}}",
        prompts=REDUCED_INDEXES,
        gates=(
            rules.gates.output
            if REDUCTION and DUO_ATTENTION in REDUCTION.methods
            else []
        ),
    output:
        touch(f"{ARTIFACTS}/answers-reduced/as-{{budget}}-{{shard}}.done"),
    log:
        f"{ARTIFACTS}/logs/answer-as-{{budget}}-{{shard}}.log",
    wildcard_constraints:
        budget="|".join(EXPERIMENT.variants),
        shard=r"\d+",
    priority: 1
    threads: 1
    resources:
        **job_resources("answer_reduced"),
    params:
        folder=subpath(output[0], parent=True),
        shards=len(REDUCED_SHARDS),
        batches=BATCHES,
        dtype=COMPUTING,
        methods=options(kv_method=REDUCTION.methods) if REDUCTION else "",
        gates=lambda wildcards, input: options(kv_gates=input.gates or None),
        prompts=lambda wildcards, input: options(prompts=list(input.prompts)),
        asked=(
            options(task=REDUCTION.tasks, length=REDUCTION.lengths)
            if REDUCTION
            else ""
        ),
    shell:
        "longgen benchmark predict {input.model} {params.prompts} {params.asked} --output {params.folder}"
        " {params.methods} --kv-budget {input.hybrid} {params.gates}"
        " --shard {wildcards.shard} --shards {params.shards} {params.batches} {params.dtype}"
        " --threads {resources.cpus} 2> >(tee {log} >&2)"


rule score:
    input:
        answers=expand(
            ANSWERED,
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
        asked="",
        answers=lambda wildcards: options(
            answers=f"{ARTIFACTS}/answers/{wildcards.variant}"
        ),
        folder=subpath(output.scores, parent=True),
        prompts=lambda wildcards, input: options(prompts=list(input.prompts)),
    shell:
        "longgen benchmark score {params.prompts} {params.asked} {params.answers} --output {params.folder}"
        " --run {params.run} --variant {params.variant} 2> >(tee {log} >&2)"


use rule score as score_reduced with:
    input:
        answers=expand(
            f"{ARTIFACTS}/answers-reduced/as-{{budget}}-{{shard}}.done",
            shard=REDUCED_SHARDS,
            allow_missing=True,
        ),
        prompts=REDUCED_INDEXES,
    output:
        scores=f"{RESULTS}/benchmarks/full/reduced-as-{{budget}}/scores.json",
        summary=f"{RESULTS}/benchmarks/full/reduced-as-{{budget}}/summary.json",
    log:
        f"{ARTIFACTS}/logs/score-as-{{budget}}.log",
    params:
        run=RUN,
        variant="full",
        asked=(
            options(task=REDUCTION.tasks, length=REDUCTION.lengths)
            if REDUCTION
            else ""
        ),
        answers=lambda wildcards: options(
            answers=[
                f"{ARTIFACTS}/answers-reduced/{method}-as-{wildcards.budget}"
                for method in REDUCTION.methods
            ]
        ),
        folder=subpath(output.scores, parent=True),
        prompts=lambda wildcards, input: options(prompts=list(input.prompts)),


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

# Jobs that meet what jobs meet on a cluster.
localrules:
    here,


def attempt(wildcards, attempt):
    return attempt


rule good:
    output:
        "good.txt",
    resources:
        gpu=2,
        cpus_per_task=3,
    shell:
        'echo "$SLURM_JOB_ID $CUDA_VISIBLE_DEVICES $SLURM_CPUS_PER_TASK" > {output}'


rule here:
    input:
        "good.txt",
    output:
        "here.txt",
    shell:
        'echo "${{SLURM_JOB_ID:-no job}}" > {output}'


# Cancelled; then its 1.2 GB, besides what Snakemake takes, are too much, as soon as Slurm looks; then not.
rule unlucky:
    output:
        "unlucky.txt",
    resources:
        mem_mb=lambda wildcards, attempt: 600 * attempt,
        attempt=attempt,
    shell:
        'if [ {resources.attempt} = 1 ]; then scancel "$SLURM_JOB_ID"; sleep 600; fi;'
        " python3 -c 'import time; memory = bytearray(1200 * 10**6);"
        " time.sleep(600 * ({resources.attempt} < 3))'; touch {output}"


# Its time is up when it says so: to wait for a limit would take a minute or more.
rule slow:
    output:
        "slow.txt",
    resources:
        attempt=attempt,
    shell:
        'if [ {resources.attempt} = 1 ]; then scontrol update JobId="$SLURM_JOB_ID" EndTime=now; sleep 600; fi;'
        " touch {output}"


rule hopeless:
    output:
        "hopeless.txt",
    log:
        "hopeless.log",
    resources:
        attempt=attempt,
    shell:
        "if [ {resources.attempt} = 1 ]; then kill -9 $$; fi; echo woe is me > {log}; exit 3"


rule patient:
    output:
        "patient.txt",
    shell:
        "until [ -e go ]; do sleep 0.2; done; touch {output}"

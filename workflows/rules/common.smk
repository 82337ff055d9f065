"""The experiment of this invocation, and what every rule asks of it."""

import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError

from longgen.config import load_experiment
from longgen.errors import LongGenError
from longgen.evaluation.names import DUO_ATTENTION
from longgen.provenance import fingerprint

for key in config:
    if key not in ("experiment", "select", "setup"):
        raise WorkflowError(
            f"--config {key}=...: allowed are experiment=PATH, select=NAMES and setup=NAME"
        )

CONFIG = config.get("experiment", "config/smoke.yaml")
try:
    EXPERIMENT = load_experiment(CONFIG)
except LongGenError as error:
    raise WorkflowError(str(error))

RUN = EXPERIMENT.name
ARTIFACTS = f"artifacts/{RUN}"
RESULTS = f"results/{RUN}"
FIGURES = f"paper_figures/{RUN}"


def selected_variants():
    """The variants of this invocation: the configuration's default ones, `select=all`, or `select=a,b`."""
    select = config.get("select", "default")
    if select == "default":
        return EXPERIMENT.default_variants
    if select == "all":
        return list(EXPERIMENT.variants)
    chosen = [name for name in EXPERIMENT.variants if name in select.split(",")]
    unknown = set(select.split(",")) - set(chosen)
    if unknown or "full" not in chosen:
        allowed = ", ".join(EXPERIMENT.variants)
        raise WorkflowError(
            f"--config select={select}: allowed are default, all, or names with full among them: {allowed}"
        )
    return chosen


def selected_setup():
    """Name of the set-up of processes that trains: the configuration's own choice, or `setup=name`."""
    name = config.get("setup", EXPERIMENT.setup)
    if name not in EXPERIMENT.setups:
        allowed = ", ".join(EXPERIMENT.setups)
        raise WorkflowError(f"--config setup={name}: allowed are {allowed}")
    return name


def trainer(setup):
    """The command that trains with so many processes as the set-up says, on this machine."""
    processes = EXPERIMENT.setups[setup].processes
    if processes in (None, 1):
        return "longgen train"
    return f"torchrun --standalone --nproc-per-node {processes} -m longgen.training"


def settings(*sections):
    """Fingerprint of parts of the configuration: as a rule's param it makes Snakemake rerun what depends on them."""
    return fingerprint(EXPERIMENT.section(*sections))


def variant_settings(name):
    """Fingerprint of one resolved variant: editing another one changes nothing here."""
    return fingerprint(str(EXPERIMENT.variant(name)))


def options(**given):
    """Options of a command from names and values; a list repeats its option, and None leaves it out."""
    words = []
    for name, value in given.items():
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                words.append(f"--{name.replace('_', '-')} {shlex.quote(str(each))}")
    return " ".join(words)


VARIANTS = selected_variants()
# A resource of the rules and no param: by which processes a model was trained is no reason to train it again.
SETUP = selected_setup()
TRAINER = trainer(SETUP)


CAPTIONS = Path(workflow.basedir) / "workflows" / "report"


def in_report(name, suffix, category):
    """A file that `snakemake --report` shows, with its caption, under the title that the caption begins with."""
    caption = CAPTIONS / f"{name}.rst"
    return report(
        f"{FIGURES}/{name}.{suffix}",
        caption=str(caption),
        category=category,
        labels={"title": caption.read_text(encoding="utf-8").splitlines()[0]},
    )


# How the full model is evaluated with its KV cache reduced at inference, and to the bytes of which hybrids.
REDUCTION = EXPERIMENT.evaluation and EXPERIMENT.evaluation.kv_reduction
BUDGETS = [name for name in VARIANTS if REDUCTION and name in REDUCTION.budgets_of]


wildcard_constraints:
    variant="|".join(EXPERIMENT.variants),
    stage="base|extension",

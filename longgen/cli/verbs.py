"""The verbs, in the order in which a run uses them, and how each is loaded: nothing is imported before its time.

``longgen --help`` reads the table below and no more. The options of a verb (`longgen.cli.options`) are imported when it
is named, for --help and for shells that complete; what carries it out, with PyTorch and others that take seconds, when
it is called.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from longgen.cli.options.parameters import Options, in_words_of_options, read_options, signature
from longgen.cli.usage import PlainUsage, is_misspelt, need_verb
from longgen.errors import ConfigError
from longgen.evaluation.short_context import need_lm_eval, quiet_lm_eval
from longgen.reporting import need_report_packages
from longgen.serving.vllm import need_vllm


@dataclass(frozen=True)
class Verb:
    """A verb of the command.

    The options of ``longgen plan train`` are class ``PlanTrainOptions`` in `longgen.cli.options`; function
    ``plan_train`` in the module of this name in `longgen.cli` is called with them.

    Attributes:
        help: its first sentence; the others are the docstring of its options.
        options: module of the class; none if there are only verbs below it.
        module: of the function, if not of its name.
        verbs: below it.
        default: the one of these that may be left out on the command line.
        before: called before the module of the function is imported.
    """

    help: str
    options: str = ""
    module: str = ""
    verbs: dict[str, Verb] = field(default_factory=dict)
    default: str | None = None
    before: tuple[Callable[[], None], ...] = ()


def _need_snakemake() -> None:
    from longgen.workflow.graph import need_snakemake

    need_snakemake()


_PLAN = {
    "train": Verb(
        "Predict memory per GPU, time and MFU of training, and what to change where a set-up does not fit.", "planning"
    ),
    "cluster": Verb(
        "Predict what a run of the workflow takes: jobs, GPU-hours and CPU-hours by rule, and storage.", "planning"
    ),
}
_BENCHMARK = {
    "prepare": Verb(
        "Make the prompts of a benchmark: JSON lines, a file for every task and length. What is there is kept.",
        "benchmark",
    ),
    "predict": Verb(
        "Answer all prompts of a folder greedily, in one process. After an interruption the same command goes on.",
        "benchmark",
    ),
    "score": Verb(
        "Score the answers to all prompts, with 95 % intervals over samples, and the benchmarks' own averages.",
        "benchmark",
    ),
}
_PROFILE = {
    "experiment": Verb(
        "Time prefill, decode and a training step by length against full attention, and weigh the KV cache.",
        "profiling",
        "profile",
    ),
    "train": Verb(
        "Time the training step of a slice of a model with random weights: LongGen against full attention.",
        "profiling",
        "profile",
    ),
    "inference": Verb(
        "Time prefill and decoding of a model with random weights, and find how long a context fits.",
        "profiling",
        "profile",
    ),
    "serving": Verb(
        "Run a load of requests through vLLM in a fixed memory: how many sequences run at once, and how fast.",
        "profiling",
        before=(need_vllm,),
    ),
    "compare": Verb(
        "Show what two runs measured of speed and memory side by side, and what is faster or slower in B.",
        "reporting",
        before=(need_report_packages,),
    ),
}
VERBS = {
    "plan": Verb(
        "Predict KV cache, FLOPs and ideal speed-ups over full attention; `plan train`: memory and time of training; "
        "`plan cluster`: jobs, hours and storage of a whole run.",
        "planning",
        verbs=_PLAN,
    ),
    "prepare": Verb("Tokenise and split the corpus, or pack the rows of a training stage.", "data"),
    "pack": Verb("Tokenise a corpus and pack it into long rows, up-sampling long documents.", "data"),
    "probe": Verb(
        "Measure what making each layer sparse costs, without training, and choose the layers that stay full.", "models"
    ),
    "convert": Verb("Convert a Llama-like checkpoint into a hybrid of full and sparse layers.", "models"),
    "train": Verb(
        "Train the base model, or extend a converted one; a killed run resumes exactly where its checkpoint stands.",
        "training",
    ),
    "gates": Verb(
        "Learn which heads of a full model need all tokens, for duo-attention; the model itself does not change.",
        "evaluation",
    ),
    "benchmark": Verb(
        "Benchmarks by their own rules: prepare the prompts once, let every model answer them, score the answers.",
        verbs=_BENCHMARK,
    ),
    "perplexity": Verb("Perplexity of a model by position in its context, on long text.", "evaluation"),
    "short-context": Verb(
        "Ask a model the questions of MMLU, HellaSwag, ARC and others, with lm-eval's prompts and scores.",
        "evaluation",
        before=(need_lm_eval, quiet_lm_eval),
    ),
    "profile": Verb(
        "Measure the variants of an experiment (`longgen profile CONFIG`), training or inference at a true model's "
        "shape, or a serving engine; or compare two runs.",
        verbs=_PROFILE,
        default="experiment",
    ),
    "figures": Verb(
        "Draw the figures of runs, with the numbers behind each as CSV, the ablation table and the claims ledger.",
        "reporting",
        before=(need_report_packages,),
    ),
    "compare": Verb(
        "Compare the variants of one or several runs: quality with 95 % intervals and cost, the best values bold.",
        "reporting",
        before=(need_report_packages,),
    ),
    "publish": Verb(
        "Copy results/RUN to results/published/NAME in one step, then draw its figures.",
        "reporting",
        before=(need_report_packages,),
    ),
    "status": Verb(
        "Show what of a run is there, running, failed and due, and what the next command does.",
        "workflow",
        before=(_need_snakemake,),
    ),
    "commands": Verb(
        "Print what the workflow runs as a script for bash: longgen commands CONFIG > run.sh.", "workflow"
    ),
}


def verbs_app(
    verbs: dict[str, Verb],
    default: str | None = None,
    words: tuple[str, ...] = (),
    options: type[Options] = Options,
    **settings: Any,
) -> typer.Typer:
    """A command of verbs.

    Args:
        verbs: by name.
        default: the one that may be left out on the command line.
        words: of the verb that they are below.
        options: of that verb itself.
        settings: those of typer.Typer.
    """

    class Group(PlainUsage, TyperGroup):
        """Lists the verbs as the table has them, and loads the one that is named."""

        parameters = signature(options).parameters

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if default and args and args[0] not in (*verbs, *ctx.help_option_names):
                if is_misspelt(args[0], verbs):
                    need_verb(ctx, args[0], verbs)
                args = [default, *args]
            return super().parse_args(ctx, args)

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            need_verb(ctx, args[0], verbs)
            name, command, rest = super().resolve_command(ctx, args)
            return name, command and _command((*words, name or ""), verbs[name or ""]), rest

    app = typer.Typer(cls=Group, **settings)
    for name, verb in verbs.items():
        app.command(name, help=verb.help)(_not_loaded)
    return app


def _not_loaded() -> None:
    raise AssertionError("a verb is loaded before it is called")


def _command(words: tuple[str, ...], verb: Verb) -> Any:
    """The command of a verb, with its options; what carries it out is still to be imported."""
    common: dict[str, Any] = {"name": words[-1], "add_completion": False}
    if not verb.options:
        app = verbs_app(verb.verbs, verb.default, words, **common, help=verb.help, no_args_is_help=True)
        return typer.main.get_command(app)
    name = "_".join(words).replace("-", "_")
    module = importlib.import_module(f"longgen.cli.options.{verb.options}")
    options: type[Options] = getattr(module, f"{name.title().replace('_', '')}Options")
    function = _function(name, verb, options)
    if verb.verbs:
        app = verbs_app(verb.verbs, verb.default, words, options, **common)
        app.callback(invoke_without_command=True)(function)
    else:

        class Command(PlainUsage, TyperCommand):
            parameters = signature(options).parameters

        app = typer.Typer(**common)
        app.command(words[-1], cls=Command)(function)
    return typer.main.get_command(app)


def _function(name: str, verb: Verb, options_class: type[Options]) -> Callable[..., None]:
    """What typer calls, which it reads parameters and help from."""

    def call(context: typer.Context, **values: Any) -> None:
        options = read_options(options_class, context, values)
        parameters = [each for each in context.command.params if each.name in options.explicit]
        given = {each.name: each.opts[0] for each in parameters if each.opts[0].startswith("-")}
        below = context.invoked_subcommand
        if below is None:
            for step in verb.before:
                step()
            function = getattr(importlib.import_module(f"longgen.cli.{verb.module or name}"), name)
            try:
                function(options)
            except ConfigError as error:
                raise ConfigError(in_words_of_options(str(error), options_class, given)) from error
        elif given:
            raise ConfigError(f"{', '.join(given.values())} given before {below}: allowed are options after it")

    parameters = signature(options_class)
    call.__signature__ = parameters  # type: ignore[attr-defined]
    call.__annotations__ = {name: each.annotation for name, each in parameters.parameters.items()}
    paragraphs = [verb.help, *inspect.cleandoc(options_class.__doc__ or "").split("\n\n")]
    call.__doc__ = "\n\n".join(" ".join(each.split()) for each in paragraphs)  # the terminal's lines, not the source's
    return call

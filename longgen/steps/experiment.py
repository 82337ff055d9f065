"""The steps of an experiment: the commands of the workflow's rules, with the same files (a test compares them)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from longgen.config import Experiment
from longgen.evaluation.names import DUO_ATTENTION
from longgen.steps.step import Step
from longgen.strict import require


def experiment_steps(
    experiment: Experiment,
    config: Path,
    variants: Sequence[str],
    setup: str,
    results: Path,
    artifacts: Path,
    threads: int = 0,
    discard_models: bool = False,
) -> list[Step]:
    """All steps, each after what it needs; a model's evaluations follow its training.

    Args:
        experiment: read from ``config``.
        config: its file.
        variants: of this run, with ``full`` among them.
        setup: name of the set-up that trains, of one process.
        results: folder of the run's results files.
        artifacts: folder of everything else.
        threads: of processors; 0 leaves the choice to PyTorch.
        discard_models: a model is deleted when it is evaluated.

    Raises:
        ConfigError: what only the workflow does is asked for: packed rows, checkpoints of others, benchmarks, a probe,
            several processes.
    """
    _check(experiment, setup)
    made = _Steps(experiment, str(config), variants, setup, results, artifacts, str(threads), discard_models)
    steps = [made.plan(), made.corpus(), made.rows("base"), made.base(), made.rows("extension")]
    for name in variants:
        steps += [made.convert(name), made.extend(name)]
        steps += [made.evaluate(name)] if experiment.evaluation else []
        steps += made.reductions() if name == "full" else []
    return steps + ([made.profile()] if experiment.profiling else [])


def _check(experiment: Experiment, setup: str) -> None:
    elsewhere = "`snakemake` does that, longgen.steps does not"
    require(experiment.base is not None, "model.checkpoint", experiment.model.checkpoint, f"null: {elsewhere}")
    for name, stage in experiment.stages.items():
        require(stage.packed is None, f"{name}.packed", stage.packed, f"null: {elsewhere}")
    require(experiment.benchmarks is None, "benchmarks", "given", f"null: {elsewhere}")
    require(experiment.probe is None, "probe", "given", f"null: {elsewhere}")
    processes = experiment.setup_named(setup).processes
    require(processes in (None, 1), f"setups.{setup}.processes", processes, f"1 or null: {elsewhere}")


class _Steps:
    def __init__(
        self,
        experiment: Experiment,
        config: str,
        variants: Sequence[str],
        setup: str,
        results: Path,
        artifacts: Path,
        threads: str,
        discard_models: bool,
    ) -> None:
        self.experiment, self.config, self.variants, self.setup = experiment, config, variants, setup
        self.results, self.artifacts = results, artifacts
        self.threads, self.discard_models = ("--threads", threads), discard_models
        self.text, self.full = artifacts / "corpus", artifacts / "models" / "full"

    def plan(self) -> Step:
        experiment, output = self.experiment, self.results / "plan.json"
        return Step(
            "plan",
            _words("plan", "--config", self.config, "--output", output),
            settings=[
                experiment.section("model", "patterns", "variants", "evaluation", "profiling"),
                [experiment.base_length, experiment.extension.max_length],
            ],
            results=(output,),
        )

    def corpus(self) -> Step:
        result = self.results / "corpus.json"
        return Step(
            "corpus",
            _words("prepare", self.config, "--stage", "corpus", "--output", self.text, "--result", result),
            settings=self.experiment.section("data"),
            results=(result,),
            makes=self.text,
            carried=True,  # the text of this machine: another one's may differ
            repeatable=True,
        )

    def rows(self, stage: str) -> Step:
        output = self.artifacts / "rows" / stage
        return Step(
            f"rows {stage}",
            _words("prepare", self.config, "--stage", stage, "--corpus", self.text, "--output", output),
            needs=("corpus",),
            settings=self.experiment.section(stage, "seed"),
            makes=output,
        )

    def base(self) -> Step:
        output, result = self.artifacts / "base", self.results / "training" / "base.json"
        return Step(
            "base",
            self._train("base", "base", output, result, "--tokenizer", self.text / "tokenizer"),
            needs=("corpus", "rows base"),
            settings=self.experiment.section("model", "base", "seed"),
            results=(result,),
            makes=output,
            carried=True,
            checkpoint=self.artifacts / "checkpoints" / "base",
        )

    def convert(self, name: str) -> Step:
        output, extension = self.artifacts / "converted" / name, self.experiment.extension
        source = self.artifacts / "base"
        return Step(
            f"convert {name}",
            _words("convert", source, output, "--config", self.config, "--variant", name, "--overwrite"),
            needs=("base",),
            settings=[
                [extension.rope, extension.rope_theta, extension.max_length],
                str(self.experiment.variant(name)),
            ],
            makes=output,
            temporary=True,
        )

    def extend(self, name: str) -> Step:
        output, result = self.artifacts / "models" / name, self.results / "training" / f"{name}.json"
        model = self.artifacts / "converted" / name
        return Step(
            f"extend {name}",
            self._train("extension", name, output, result, "--variant", name, "--model", model),
            needs=("rows extension", f"convert {name}"),
            settings=self.experiment.section("extension"),
            results=(result,),
            makes=output,
            temporary=self.discard_models,
            carried=True,
            checkpoint=self.artifacts / "checkpoints" / name,
        )

    def evaluate(self, name: str) -> Step:
        output = self.results / "evaluation" / name
        return Step(
            f"evaluate {name}",
            self._evaluate(name, "--model", self.artifacts / "models" / name, "--output", output),
            needs=(f"extend {name}", "corpus"),
            settings=self.experiment.section("evaluation", "seed"),
            results=(output / "retrieval.json", output / "perplexity.json"),
        )

    def reductions(self) -> list[Step]:
        """Of the full model's KV cache, with the gates that are learned for them."""
        experiment, gates, found = self.experiment, self.artifacts / "gates.json", []
        reduction = experiment.evaluation and experiment.evaluation.kv_reduction
        budgets = [name for name in self.variants if reduction and name in reduction.budgets_of]
        learned = reduction and budgets and DUO_ATTENTION in reduction.methods
        if experiment.evaluation and reduction and learned:
            words = _words("gates", self.config, "--model", self.full, "--corpus", self.text, "--output", gates)
            learning = [str(reduction.duo_attention), experiment.evaluation.dtype]
            settings = [learning, experiment.section("patterns", "seed")]
            found.append(
                Step("gates", (*words, *self.threads), ("extend full", "corpus"), settings, makes=gates, carried=True)
            )
        for name in budgets:
            output = self.results / "kv-reduction"
            asked = ("--kv-budget-of", name, *(("--gates", gates) if learned else ()))
            found.append(
                Step(
                    f"reduce_kv {name}",
                    self._evaluate("full", *asked, "--model", self.full, "--output", output),
                    needs=("extend full", "corpus", *(("gates",) if learned else ())),
                    settings=[experiment.section("evaluation", "seed"), str(experiment.variant(name))],
                    results=(output / f"{name}.json",),
                )
            )
        return found

    def profile(self) -> Step:
        output = self.results / "profile"
        chosen = [word for name in self.variants for word in ("--variant", name)]
        return Step(
            "profile",
            _words("profile", self.config, *chosen, "--output", output),
            settings=[
                self.experiment.section("model", "profiling"),
                [str(self.experiment.variant(name)) for name in self.variants],
            ],
            results=(output / "speed.json", output / "memory.json"),
        )

    def _train(self, stage: str, name: str, output: Path, result: Path, *more: str | Path) -> tuple[str, ...]:
        places = ("--output", output, "--result", result, "--checkpoint", self.artifacts / "checkpoints" / name)
        rows = ("--rows", self.artifacts / "rows" / stage, "--metrics", self.artifacts / "metrics" / name)
        words = _words("train", self.config, "--stage", stage, "--setup", self.setup, *rows, *places, *more)
        return words + self.threads

    def _evaluate(self, name: str, *more: str | Path) -> tuple[str, ...]:
        words = _words("evaluate", self.config, "--variant", name, "--corpus", self.text, *more)
        return words + self.threads


def _words(*given: str | Path) -> tuple[str, ...]:
    return tuple(map(str, given))

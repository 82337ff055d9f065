"""`longgen plan train`: memory per GPU and time of a training set-up, by arithmetic alone (no torch, no GPU)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import typer

from longgen.cli.options.planning import PHASE, SETUP, TOKENS, TRAINING, PlanTrainOptions
from longgen.cli.plan_train_tables import as_record, print_tables
from longgen.config import OptimizerSettings, load_experiment
from longgen.errors import ConfigError
from longgen.gpus import gpu_named
from longgen.hybrid import Hybrid
from longgen.model import Model
from longgen.planner import experiment_shape
from longgen.planner.job import Machine
from longgen.planner.training import TrainingPlan, plan_training, remedies

# Name of a plan in a table -> plan
Plans = dict[str, TrainingPlan]


def plan_train(options: PlanTrainOptions) -> None:
    """Print the plans that the options ask for; with --check, exit code 2 says that something does not fit."""
    machine = options.machine.applied_to(Machine(gpu_named(options.gpu), network=options.network_gb * 1e9))
    if options.config:
        plans = _plan_experiment(options.config, options.setup, options.gpus, machine)
    else:
        plans = _plan_model(options, machine)
    if options.as_json:
        for name, plan in plans.items():
            print(json.dumps(as_record(name, plan)))
    else:
        print_tables(plans, title=str(options.config or ""))
        for name, plan in plans.items():
            if not plan.fits():
                changes = "; or ".join(remedies(plan)) or "nothing that is tried: smaller models, shorter rows"
                print(f"{name} does not fit. What would: {changes}")
    if options.check and not all(plan.fits() for plan in plans.values()):
        raise typer.Exit(2)


def _plan_model(options: PlanTrainOptions, machine: Machine) -> Plans:
    """The one set-up that the options describe."""
    shape = options.shape()
    model = Model(shape, Hybrid(options.layout(shape), options.sparse_pattern()))
    phase = options.phase.applied_to(PHASE)
    if "steps" not in options.explicit:
        phase = replace(phase, steps=-(-TOKENS // (phase.length * phase.batch_size)))
    optimizer = options.optimizer.applied_to(OptimizerSettings())
    training = options.training.applied_to(replace(TRAINING, phases=[phase], optimizer=optimizer))
    setup = options.processes.applied_to(replace(SETUP, processes=options.gpus))
    plan = plan_training(model, phase.length, phase.batch_size, training, setup, options.gpus, machine)
    return {f"{shape.name} on {options.gpus} GPUs": plan}


def _plan_experiment(config: Path, name: str | None, gpus: int, machine: Machine) -> Plans:
    """Every default variant of an experiment on each of its set-ups, at its longest phase of extension."""
    experiment = load_experiment(config)
    if name is not None and name not in experiment.setups:
        raise ConfigError(f"--setup is {name!r}: allowed are {', '.join(experiment.setups)}")
    setups = {key: setup for key, setup in experiment.setups.items() if setup.device == "cuda" and name in (None, key)}
    if not setups:
        raise ConfigError(f"{config}: no set-up has device cuda: allowed are set-ups for GPUs")
    training, shape = experiment.extension, experiment_shape(experiment)
    longest = max(training.phases, key=lambda phase: phase.length)
    plans = {}
    for key, setup in setups.items():
        for variant in map(experiment.variant, experiment.default_variants):
            phase, processes = (longest.length, longest.batch_size), setup.processes or gpus
            try:
                plan = plan_training(Model(shape, variant.hybrid), *phase, training, setup, processes, machine)
            except ConfigError as error:
                raise ConfigError(f"{config}: setups.{key}: {error}") from None
            plans[f"{key}, {variant.name}"] = plan
    return plans

"""`longgen profile`: an experiment's variants, and a true model's training or inference."""

from __future__ import annotations

import sys
from typing import NamedTuple

import torch
import typer

from longgen.busy import warning
from longgen.cli.machine import on_this_machine, use_threads
from longgen.cli.options.profiling import (
    INFERENCE_TRIAL,
    LENGTHS,
    SHAPE,
    TRAIN_TRIAL,
    ModelProfileOptions,
    ProfileExperimentOptions,
    ProfileInferenceOptions,
    ProfileTrainOptions,
)
from longgen.cli.options.shared import whole_numbers
from longgen.config import load_experiment, require_part
from longgen.errors import ConfigError
from longgen.profiling.device import precision_on
from longgen.profiling.experiment import profile_experiment as measure_variants
from longgen.profiling.gpu import check_device, default_name
from longgen.profiling.inference_speed import InferenceSpeed, cases_of, check_batch
from longgen.profiling.session import Budget, Session
from longgen.profiling.stacks import FEWEST_LAYERS, MOST_LAYERS, SHAPES, TINY, is_large_for, is_trial
from longgen.profiling.training_speed import TrainingCase, TrainingSpeed
from longgen.provenance import provenance
from longgen.results import Result, check_run_name, save_result
from longgen.shapes import ModelShape
from longgen.units import seconds_of_minutes


def profile_experiment(options: ProfileExperimentOptions) -> None:
    """Measure the variants and write the results files; a warning says if the machine was busy."""
    experiment = on_this_machine(load_experiment(options.config), "profiling")
    variants = options.variant or experiment.default_variants
    for name in variants:
        experiment.variant(name)
    if "full" not in variants:
        raise ConfigError(f"--variant is {', '.join(variants)}: 'full' must be one, speed-ups are relative to it")
    profiling = require_part(experiment.profiling, "profiling")
    use_threads(profiling.threads)
    speed, memory, attention = measure_variants(experiment, variants)
    settings = experiment.section("profiling", "model") | {"variants": variants}
    origin = provenance(settings, experiment.seed, profiling.device, attention=attention)
    for kind, records in (("speed", speed), ("memory", memory)):
        save_result(options.output / f"{kind}.json", Result(kind, experiment.name, records, origin, settings=settings))
    if problem := warning(speed):
        print(f"longgen: warning: {problem}", file=sys.stderr)


def profile_train(options: ProfileTrainOptions) -> None:
    """Measure the training step, as long as there is time, and print what the file holds."""
    target = _target(options)
    tokens = whole_numbers("lengths", [options.lengths or (TRAIN_TRIAL if target.shape == TINY else LENGTHS)])
    stage = TrainingSpeed(target.device, is_trial(target.device, target.shape), target.most_layers)
    session = Session(stage, options.output, target.run, Budget(seconds_of_minutes(options.minutes)))
    session.run(TrainingCase(target.shape, length) for length in tokens)
    print(session.table())
    print(f"results: {session.path}")


def profile_inference(options: ProfileInferenceOptions) -> None:
    """Measure prefill, decoding and the longest context, as long as there is time, and print what the file holds."""
    target = _target(options)
    if problem := check_batch(options.batch):
        raise ConfigError(problem)
    tokens = whole_numbers("lengths", [options.lengths or (INFERENCE_TRIAL if target.shape == TINY else LENGTHS)])
    stage = InferenceSpeed(target.device, is_trial(target.device, target.shape), target.most_layers)
    session = Session(stage, options.output, target.run, Budget(seconds_of_minutes(options.minutes)))
    session.run(cases_of(target.shape, tokens, options.batch, target.device))
    print(session.table())
    print(f"results: {session.path}")


class _Target(NamedTuple):
    """What the options say, checked: on which device, a whole model, most layers of a slice, and a run."""

    device: str
    shape: ModelShape
    most_layers: int
    run: str


def _target(options: ModelProfileOptions) -> _Target:
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if problem := check_device(device):
        raise ConfigError(problem)
    shape = options.shape or (TINY.name if device == "cpu" else SHAPE)
    if shape not in SHAPES:
        raise ConfigError(f"--shape is {shape!r}: allowed are {', '.join(SHAPES)}")
    large = is_large_for(device, SHAPES[shape])
    most_layers = (FEWEST_LAYERS if large else MOST_LAYERS) if options.layers is None else options.layers
    if not FEWEST_LAYERS <= most_layers <= SHAPES[shape].num_layers:
        allowed = f"{FEWEST_LAYERS}..{SHAPES[shape].num_layers}"
        raise ConfigError(f"--layers is {most_layers}: allowed are {allowed} with {shape}")
    if large and precision_on(device) == "float32":
        typer.echo("this CPU has no instructions for bfloat16: weights, activations and cache are float32", err=True)
    return _Target(device, SHAPES[shape], most_layers, check_run_name(options.name or default_name(device)))

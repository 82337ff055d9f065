"""The predictions for all variants and lengths of an experiment: what a results file of kind ``plan`` holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from longgen.config import Experiment
from longgen.model import VALUE_BYTES, Model, make_plan
from longgen.probed_layout import Probe, probed_layout
from longgen.records.experiment import PlanRecord
from longgen.shapes import ModelShape


def experiment_shape(experiment: Experiment) -> ModelShape:
    """The shape of an experiment's models; hybrids share the base model's."""
    return ModelShape.from_settings(experiment.name, experiment.model)


def experiment_lengths(experiment: Experiment) -> list[int]:
    """Every length, ascending, that the experiment trains (extension), asks recall or measures at."""
    lengths = {experiment.extension.max_length}
    if experiment.recall is not None:
        lengths |= {*(experiment.recall.lengths or ())}
    if experiment.profiling is not None:
        lengths |= {*experiment.profiling.lengths, *experiment.profiling.training_lengths}
    return sorted(lengths)


def experiment_settings(experiment: Experiment, probes: Sequence[Probe] = ()) -> dict[str, Any]:
    """What a results file of kind ``plan`` says about the experiment besides the predictions, as plain data.

    Args:
        experiment: the configuration.
        probes: records of probes of its base model, for variants whose layouts these say.

    Raises:
        ConfigError: such a record is missing, or of another model.
    """
    variants = {name: experiment.variant(name) for name in experiment.variants}
    size = (experiment.model.num_hidden_layers, experiment.model.num_key_value_heads)
    layouts = {
        name: probed_layout(variant.probed, probes, *size) if variant.probed else variant.layout
        for name, variant in variants.items()
    }
    return {
        "model": asdict(experiment_shape(experiment)),
        "trained_length": experiment.extension.max_length,
        "base_length": experiment.base_length,
        "variants": {
            name: {
                "layout": layouts[name].kinds(),
                "pattern": variant.pattern.to_dict(),
                "pattern_name": variant.pattern_name,
                "placement": variant.placement,
                "full_layers": variant.layout.num_full,
                "trained": variant.trained,
            }
            for name, variant in variants.items()
        },
        "default_variants": experiment.default_variants,
    }


def experiment_records(experiment: Experiment) -> list[PlanRecord]:
    """Predictions for every variant and length, batch 1: the records of a results file of kind ``plan``.

    In the dtype that is measured in (``profiling.dtype``), or asked in where nothing is measured.
    """
    shape, records = experiment_shape(experiment), []
    part = experiment.profiling or experiment.benchmarks
    # float16, which nothing is trained in, is as long as bfloat16
    bytes_per_value = VALUE_BYTES.get("float32" if part is None else part.dtype, VALUE_BYTES["bfloat16"])
    for name in experiment.variants:
        variant = experiment.variant(name)
        for length in experiment_lengths(experiment):
            plan = make_plan(Model(shape, variant.hybrid), length, bytes_per_value=bytes_per_value)
            records.append(
                PlanRecord(
                    variant=name,
                    placement=variant.placement,
                    pattern=variant.pattern_name,
                    full_layers=variant.layout.num_full,
                    num_layers=variant.layout.num_layers,
                    length=length,
                    kv_bytes=plan.kv_bytes,
                    kv_fraction=plan.kv_fraction,
                    prefill_flops=plan.prefill_flops,
                    training_flops=plan.training_flops,
                    decode_bytes=plan.decode_bytes,
                    ideal_prefill_speedup=plan.ideal_prefill_speedup,
                    ideal_decode_speedup=plan.ideal_decode_speedup,
                    ideal_training_speedup=plan.ideal_training_speedup,
                )
            )
    return records

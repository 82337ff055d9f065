"""Conversion of a checkpoint into a hybrid: the weights are the base's; config, card and record are new."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from transformers import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from longgen.errors import ArtifactError, ConfigError, LongGenError
from longgen.files import atomic_directory, write_json
from longgen.layout import Layout, parse_layout
from longgen.modeling.configuration import hybrid_of, longgen_config, plain_values
from longgen.modeling.conversion.card import ModelCard
from longgen.modeling.conversion.opening import open_source
from longgen.modeling.conversion.record import ConversionRecord
from longgen.modeling.conversion.safetensors_file import TensorInfo, read_header
from longgen.modeling.conversion.shards import CAST_DTYPES, Shards
from longgen.modeling.conversion.source import CONFIG, FolderSource, Source, check_generation_config, companion_names
from longgen.modeling.conversion.tying import is_tied
from longgen.modeling.conversion.weights import (
    SAFETENSORS,
    check_depth,
    find_weights,
    fingerprint_weights,
    model_tensors,
)
from longgen.modeling.model import longgen_classes
from longgen.modeling.qualification import check_qualifies
from longgen.pattern import SparsePattern
from longgen.probed_layout import is_probed, read_probe
from longgen.progress import progress_bar
from longgen.shapes import ModelShape
from longgen.units import binary_size


@dataclass(frozen=True)
class Conversion:
    """What `convert_checkpoint` did.

    Attributes:
        destination: the folder.
        written: False if it was there already, made by the same request from the same source.
        card: what its model card tells.
    """

    destination: Path
    written: bool
    card: ModelCard


def convert_checkpoint(
    source: Path | str,
    destination: Path | str,
    layout: Layout | str,
    pattern: SparsePattern,
    rope_theta: float | None = None,
    max_length: int | None = None,
    overwrite: bool = False,
    *,
    rope: str | None = None,
    revision: str | None = None,
    dtype: str | None = None,
    drop_sliding_window: bool = False,
    check_finite: bool = True,
    probe: Path | None = None,
) -> Conversion:
    """Write the hybrid of the checkpoint in ``source`` to ``destination``.

    State-dict keys stay the base model's: shards that keep their dtype are copied as they are, others are rewritten in
    pieces of some MiB. Nothing is written before names, shapes and lengths of all tensors and the free space have been
    checked, and no code of the checkpoint is run.

    Args:
        source: folder with config.json and weights of a family in `BASE_FAMILIES`, the id of a hub repository, or a
            GGUF file, which is dequantised (all of it in memory).
        destination: folder to make; complete or absent, never half-written.
        layout: a `Layout`, or a word for `parse_layout` such as ``middle:1/3``.
        pattern: of the sparse layers.
        rope_theta: new RoPE base; None keeps the base model's.
        max_length: new maximum length in tokens; None keeps the base model's.
        overwrite: replace an existing destination, whatever it is.
        rope: how RoPE is extended, see `longgen.modeling.rope.extended_rope`.
        revision: branch, tag or commit of a hub repository.
        dtype: ``bfloat16``, ``float16`` or ``float32`` for the weights; None keeps each tensor's own, and makes
            float32 of quantised ones.
        drop_sliding_window: remove the base model's sliding window instead of refusing it.
        check_finite: refuse weights that are NaN or infinite.
        probe: record of a probe of this very model, for a ``layout`` such as ``probed:1/6``.

    Raises:
        ArtifactError: source not found, incomplete, damaged or not what its config says; a weight that is not finite;
            destination exists; too little space on the disk.
        ConfigError: the model does not qualify, or the request does not fit it.
    """
    destination = Path(destination)
    if dtype is not None and dtype not in CAST_DTYPES:
        raise ConfigError(f"dtype is {dtype!r}: allowed are {', '.join(CAST_DTYPES)}, or none, which keeps the dtype")
    origin = open_source(source, revision, CAST_DTYPES.get(dtype or ""))
    _check_destination(destination, origin)
    base = base_config(origin, drop_sliding_window)
    check_generation_config(origin)
    needs_probe = isinstance(layout, str) and is_probed(layout)
    if (probe is not None) != needs_probe:
        allowed = "a layout such as probed:1/6 with --probe" if probe else "that with --probe, a probe's record"
        value = layout.kinds() if isinstance(layout, Layout) else layout
        raise ConfigError(f"layout is {value!r}: allowed is {allowed} (`longgen probe` makes it)")
    if isinstance(layout, str):
        if probe is not None:
            layout = _probed_layout(probe, layout, origin, base)
        else:
            layout = parse_layout(layout, base.num_hidden_layers, base.num_key_value_heads)
    try:
        config = longgen_config(base, layout, pattern, rope_theta, max_length, rope, drop_sliding_window)
    except LongGenError:
        raise  # of the request
    except Exception as error:
        options = {"rope": rope, "rope_theta": rope_theta, "max_length": max_length}
        words = " and ".join(f"{name} {value}" for name, value in options.items() if value is not None)
        raise _transformers_error(origin, error, words and f" with {words}") from error
    _, model_class = longgen_classes(base.model_type)
    config.architectures = [model_class.__name__]
    if dtype is not None:
        config.dtype = CAST_DTYPES[dtype]

    weights = find_weights(origin)
    companion_files = companion_names(origin.sizes())
    source_files = [CONFIG, *weights.files, *([weights.index] if weights.index else []), *companion_files]
    record = ConversionRecord(
        source={
            "name": origin.name,
            "revision": origin.revision,
            "files": {name: origin.identity(name) for name in source_files},
        },
        request={
            "layout": layout.kinds(),
            "pattern": pattern.to_dict(),
            "rope": rope or ("abf" if rope_theta is not None else None),
            "rope_theta": rope_theta,
            "max_length": max_length,
            "dtype": dtype,
            "drop_sliding_window": drop_sliding_window,
        },
    )
    if destination.exists() and not overwrite:
        record.check_result(destination)
        return Conversion(destination, False, _card(origin, base, config, destination, dtype))

    tensors = {file: origin.tensors(file) for file in weights.files}
    with _naming_config(origin):
        check_depth(config.num_hidden_layers, origin.where, chain.from_iterable(tensors.values()))
        _check_is_kept(config)
        expected = model_tensors(model_class, config)
    shards = Shards(origin, weights, tensors, expected, CAST_DTYPES.get(dtype or ""), check_finite)
    shards.check()
    _check_space(destination, shards.space() + sum(origin.sizes()[name] for name in companion_files))
    with atomic_directory(destination) as folder:
        _write_model(folder, shards, companion_files, config)
        card = _card(origin, base, config, folder, dtype)
        (folder / "README.md").write_text(card.text(), "utf-8")
        record.save(folder)
    return Conversion(destination, True, card)


def _probed_layout(probe: Path, text: str, origin: Source, base: PretrainedConfig) -> Layout:
    record = read_probe(probe)
    layout = record.layout(text, base.num_hidden_layers, base.num_key_value_heads)
    if not isinstance(origin, FolderSource):
        raise ConfigError(
            f"layout is {text!r}: allowed for the folder of a checkpoint, whose weights are compared with those that "
            f"were probed; for {origin.where} give --layout one of the files that `longgen probe` wrote"
        )
    record.check_weights(fingerprint_weights(origin), origin.where)
    return layout


def companions(folder: Path) -> list[Path]:
    """Files of ``folder`` that travel with weights: tokenizer, generation defaults, chat template, terms of use."""
    return [folder / name for name in companion_names(path.name for path in folder.iterdir() if path.is_file())]


def _check_destination(destination: Path, origin: Source) -> None:
    if destination.exists() and not destination.is_dir():
        raise ArtifactError(f"{destination} is a file: allowed is a folder, or a new name")
    if origin.path is not None and origin.path.resolve().is_relative_to(destination.resolve()):
        raise ArtifactError(f"{destination} holds the base model: allowed is another folder, since it stays as it is")
    if origin.path is not None and destination.resolve().is_relative_to(origin.path.resolve()):
        raise ArtifactError(
            f"{destination} is inside the base model's folder {origin.path}: allowed is a folder outside of it, which "
            "stays as it is"
        )


def base_config(origin: Source, drop_sliding_window: bool = False) -> PretrainedConfig:
    """The config of a base model, of transformers' class for its family: ``auto_map`` in it is never followed.

    Raises:
        ArtifactError: there is none.
        ConfigError: the model does not qualify; a hybrid does if all its layers are full, as its base model.
    """
    if CONFIG not in origin.sizes():
        raise ArtifactError(f"{origin.where} has no config.json: give the folder of a Hugging Face checkpoint")
    values = origin.read_json(CONFIG)
    with _naming_config(origin):
        values = plain_values(values)
        check_qualifies(values, drop_sliding_window)
        base = CONFIG_MAPPING[values["model_type"]].from_dict(values)
        check_qualifies(base.to_dict(), drop_sliding_window)  # once more, with the class's defaults
    return base


def _check_is_kept(config: PretrainedConfig) -> None:
    """Write ``config`` and read it again, where nobody looks: transformers checks once more when it does either."""
    with tempfile.TemporaryDirectory() as scratch:
        config.save_pretrained(scratch)
        type(config).from_pretrained(scratch)


@contextmanager
def _naming_config(origin: Source) -> Iterator[None]:
    """Whatever is raised for a config, by us or by transformers, as one error that names the file.

    transformers has no exception of its own: it raises what its code runs into, from KeyError to AssertionError.
    """
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{origin.config}: {error}") from error
    except Exception as error:
        raise _transformers_error(origin, error) from error


def _transformers_error(origin: Source, error: Exception, options: str = "") -> ConfigError:
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ConfigError(f"{origin.config}: transformers makes no model of it{options} ({reason})")


def _check_space(destination: Path, needed: int) -> None:
    parent = next(folder for folder in destination.absolute().parents if folder.exists())
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise ArtifactError(f"{parent} has {binary_size(free)} free: the conversion needs {binary_size(needed)}")


def _write_model(folder: Path, shards: Shards, companion_files: list[str], config: PretrainedConfig) -> None:
    """Fill ``folder`` with weights, index, ``companion_files``, and config."""
    scratch = folder / ".download"  # inside, so that a download is moved to its place and not copied
    with progress_bar(len(shards.weights.files), "convert", "shard") as bar:
        for file in shards.weights.files:
            shards.place(file, folder, scratch)
            bar.update()
    _write_index(folder, _tensors(folder))
    for name in companion_files:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(shards.source.file(name, scratch), folder / name)
    shutil.rmtree(scratch, ignore_errors=True)
    config.tie_word_embeddings = is_tied(folder, config)
    config.save_pretrained(folder)


def _tensors(folder: Path) -> dict[str, dict[str, TensorInfo]]:
    return {path.name: read_header(path).tensors for path in sorted(folder.glob("*.safetensors"))}


def _write_index(folder: Path, shards: dict[str, dict[str, TensorInfo]]) -> None:
    """Write the index of the shards in ``folder``, unless there is but one."""
    if SAFETENSORS in shards:
        return
    total = sum(info.end - info.start for tensors in shards.values() for info in tensors.values())
    weight_map = {name: file for file, tensors in shards.items() for name in tensors}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / f"{SAFETENSORS}.index.json", index)


def _card(
    origin: Source, base: PretrainedConfig, config: PretrainedConfig, folder: Path, cast: str | None
) -> ModelCard:
    sizes: Counter[torch.dtype] = Counter()
    for tensors in _tensors(folder).values():
        for info in tensors.values():
            sizes[info.dtype] += info.end - info.start
    (common, _), *_ = sizes.most_common(1)
    return ModelCard(
        base=origin.name,
        on_hub=origin.revision is not None,
        model_type=config.model_type,
        hybrid=hybrid_of(config),
        rope=config.rope_parameters,
        max_length=config.max_position_embeddings,
        shape=dataclasses.replace(ModelShape.from_hf_config(folder), name=origin.name),
        bytes_per_value=common.itemsize,
        attention_dropout=base.attention_dropout or 0,
        weights=origin.weights or (f"cast to {cast}" if cast else "unchanged"),
    )

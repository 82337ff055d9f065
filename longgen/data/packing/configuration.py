"""Reading a configuration file of `longgen pack`, and checking its names against the registries."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from longgen.data.facts import KINDS
from longgen.data.packing.methods import METHODS
from longgen.data.packing.readers import READERS
from longgen.data.packing.settings import PackSettings, UpsamplingSettings
from longgen.errors import ConfigError
from longgen.strict import build, load_configuration, require


def load_pack_settings(path: Path | str) -> PackSettings:
    """Read and check a configuration file, which may extend another (`longgen.strict.load_configuration`).

    Raises:
        ConfigError: with the file, the key, the value and what is allowed.
    """
    value, origin = load_configuration(path)
    try:
        settings = build(PackSettings, value, "")
        check_names(settings)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None
    return settings


def check_names(settings: PackSettings) -> None:
    """Raise ConfigError where a name is in no registry, or a method gets settings of another."""
    for index, source in enumerate(settings.sources):
        require(source.kind in READERS, f"sources[{index}].kind", source.kind, ", ".join(READERS))
    require(settings.method in METHODS, "method", settings.method, ", ".join(METHODS))
    method = settings.method
    upsampling = settings.upsampling
    if method in ("per-source", "global"):
        values = [upsampling.factor, upsampling.share]
        require(values.count(None) == 1, "upsampling.factor, share", values, f"one of the two with method {method}")
    else:
        is_default = upsampling == UpsamplingSettings()
        require(is_default, "upsampling", dataclasses.asdict(upsampling), f"none with method {method}")
    mixture = settings.mixture
    allowed = f"none with method {method}, only per-source keeps one"
    require(mixture is None or method == "per-source", "mixture", mixture, allowed)
    if method == "buckets":
        are_powers_of_two = all(length & (length - 1) == 0 for length in settings.lengths)
        require(are_powers_of_two, "lengths", settings.lengths, "powers of two with method buckets")
        shares = settings.length_shares
        require(shares is None, "length_shares", shares, "null with method buckets: documents decide")
        require(not settings.shuffle_rows, "shuffle_rows", True, "false with method buckets, which always does")
    for index, kind in enumerate((settings.lookups and settings.lookups.kinds) or ()):
        require(kind in KINDS, f"lookups.kinds[{index}]", kind, ", ".join(KINDS))

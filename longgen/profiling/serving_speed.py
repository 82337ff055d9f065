"""Stage ``serving-speed``: how many sequences a serving engine runs at once in a fixed memory, and how fast.

The same weights twice: as the hybrid that they are, and with full attention in all layers.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longgen.busy import WATCHED, Watch
from longgen.errors import ConfigError
from longgen.hybrid import Hybrid
from longgen.modeling import hybrid_of
from longgen.modeling.rope import describe_rope
from longgen.profiling.session import Budget, Record, Stage
from longgen.profiling.table import number, speed_table, timed_cells
from longgen.profiling.workloads import FULL
from longgen.serving.vllm import engine_version
from longgen.serving.vllm.load import Load, serve
from longgen.statistics import bootstrap_interval

_MEASURED_COLUMNS = (
    *("sequences", "running", "preemptions", "kv_bytes", "n", "seconds", "tokens_per_second"),
    *("first_token", "first_token_low", "first_token_high", "speedup", "speedup_low", "speedup_high"),
    *("spread", "speedup_spread", *WATCHED),
)
_HEADINGS = (
    *("model", "tokens", "layers", "full", "pattern"),
    *("requests", "at once", "fit", "ms", "speed-up", "tokens/s", "first s", "KV MiB"),
)


@dataclass(frozen=True)
class ServedModel:
    """A model in a folder."""

    folder: Path
    name: str
    hybrid: Hybrid
    rope: str

    @classmethod
    def read(cls, folder: Path) -> ServedModel:
        """Raises ConfigError if it is no hybrid."""
        from transformers import AutoConfig

        if not (folder / "config.json").is_file():
            raise ConfigError(f"{folder} has no config.json: allowed is the folder of a hybrid (`longgen convert`)")
        config = AutoConfig.from_pretrained(folder)
        return cls(folder, folder.name, hybrid_of(config), describe_rope(config.rope_parameters))


class ServingSpeed(Stage[Load]):
    """Loads through vLLM.

    Args:
        model: the hybrid.
        settings: those that all loads share.
    """

    kind, title, unit, device = "serving-speed", "serving", "load", "cpu"

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        pattern = model.hybrid.pattern.to_dict()
        self.settings = {"model": model.name, "pattern": pattern, "rope": model.rope, "eager": True, "tiny": False}

    def more_cases(self) -> list[Load]:
        return []

    def identities(self, case: Load) -> list[Record]:
        return [asdict(case)]

    def blank(self, case: Load) -> Record:
        return self._record(case, self.model.hybrid.layout.num_full)

    def _record(self, case: Load, full_layers: float, **values: Any) -> Record:
        layers = self.model.hybrid.layout.num_layers
        pattern = FULL if full_layers == layers else _pattern_name(self.model.hybrid)
        same = {"status": None, "reason": None, "engine": engine_version(), "shape": self.model.name, **asdict(case)}
        stack = {"num_layers": layers, "full_layers": full_layers, "pattern": pattern}
        return same | stack | dict.fromkeys(_MEASURED_COLUMNS) | values

    def measure(self, case: Load, budget: Budget) -> list[Record]:
        layers = self.model.hybrid.layout.num_layers
        everything_full = {"longgen": {"layout": ["full"] * layers, "pattern": self.settings["pattern"]}}
        records: list[Record] = []
        for full_layers, changes in ((layers, everything_full), (self.model.hybrid.layout.num_full, {})):
            with Watch() as watch:
                measurement = serve(self.model.folder, case, self.model.hybrid.pattern.block_size, changes)
            low, high = bootstrap_interval(measurement.first_tokens, "median")
            values: Record = measurement._asdict()
            first_tokens = values.pop("first_tokens")
            values |= {
                "n": 1,
                "tokens_per_second": case.requests * case.new_tokens / measurement.seconds,
                "first_token": statistics.median(first_tokens),
                "first_token_low": low,
                "first_token_high": high,
                "speedup": (records[0] if records else values)["seconds"] / measurement.seconds,
                **watch.columns(),
            }
            records.append(self._record(case, full_layers, **values))
        return records

    def table(self, records: Sequence[Record]) -> str:
        return speed_table(_HEADINGS, records, _cells, _subject, keys=5, words=1)


def _pattern_name(hybrid: Hybrid) -> str:
    return f"stride-{hybrid.pattern.stride}" if hybrid.pattern.stride else "sink"


def _cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        *(record["shape"], f"{record['length']:,}", str(record["num_layers"]), f"{record['full_layers']:g}"),
        *(record["pattern"], str(record["requests"]), str(record["running"]), number(record["sequences"], ".2f")),
        *timed_cells(record, ",.0f"),
        number(record["tokens_per_second"], ".2f"),
        number(record["first_token"], ".1f"),
        number(record["kv_bytes"] and record["kv_bytes"] / 2**20, ".1f"),
    )


def _subject(record: Mapping[str, Any]) -> str:
    return f"{record['requests']} requests of {record['length']:,} tokens to {record['shape']}"

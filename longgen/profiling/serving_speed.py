"""Stage ``serving-speed``: how many sequences a serving engine runs at once in a fixed memory, and how fast.

The same weights twice: as the hybrid that they are, and with full attention in all layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from longgen.busy import Watch
from longgen.errors import ConfigError
from longgen.hybrid import Hybrid
from longgen.modeling import hybrid_of
from longgen.modeling.rope import describe_rope
from longgen.profiling.rounds import interval_columns
from longgen.profiling.session import Budget, Stage
from longgen.profiling.table import number, speed_table, timed_cells
from longgen.profiling.workloads import FULL
from longgen.records.kernels import ServingSpeedRecord
from longgen.serving.vllm import engine_version
from longgen.serving.vllm.load import Load, serve

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


class ServingSpeed(Stage[Load, ServingSpeedRecord]):
    """Loads through vLLM.

    Args:
        model: the hybrid.
        settings: those that all loads share.
    """

    kind, title, unit, device = "serving-speed", "serving", "load", "cpu"
    key = tuple(each.name for each in fields(Load))

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        pattern = model.hybrid.pattern.to_dict()
        self.settings = {"model": model.name, "pattern": pattern, "rope": model.rope, "eager": True, "tiny": False}

    def more_cases(self) -> list[Load]:
        return []

    def blank(self, case: Load) -> ServingSpeedRecord:
        layout = self.model.hybrid.layout
        pattern = _pattern_name(self.model.hybrid) if layout.num_sparse else FULL
        stack = {"num_layers": layout.num_layers, "full_layers": layout.num_full, "pattern": pattern}
        return ServingSpeedRecord.blank(engine=engine_version(), shape=self.model.name, **asdict(case), **stack)

    def measure(self, case: Load, budget: Budget) -> list[ServingSpeedRecord]:
        layers, hybrid = self.model.hybrid.layout.num_layers, self.blank(case)
        everything_full = {"longgen": {"layout": ["full"] * layers, "pattern": self.settings["pattern"]}}
        records: list[ServingSpeedRecord] = []
        for blank, changes in ((replace(hybrid, full_layers=layers, pattern=FULL), everything_full), (hybrid, {})):
            with Watch() as watch:
                measurement = serve(self.model.folder, case, self.model.hybrid.pattern.block_size, changes)
            record = replace(
                blank,
                sequences=measurement.sequences,
                running=measurement.running,
                preemptions=measurement.preemptions,
                kv_bytes=measurement.kv_bytes,
                n=1,
                seconds=measurement.seconds,
                tokens_per_second=case.requests * case.new_tokens / measurement.seconds,
                **interval_columns("first_token", measurement.first_tokens),
                **watch.columns(),
            )
            records.append(replace(record, speedup=[*records, record][0].seconds / record.seconds))
        return records

    def table(self, records: Sequence[ServingSpeedRecord]) -> str:
        return speed_table(_HEADINGS, records, _cells, _subject, keys=5, words=1)


def _pattern_name(hybrid: Hybrid) -> str:
    return f"stride-{hybrid.pattern.stride}" if hybrid.pattern.stride else "sink"


def _cells(record: ServingSpeedRecord) -> tuple[str, ...]:
    return (
        *(record.shape, f"{record.length:,}", str(record.num_layers), f"{record.full_layers:g}"),
        *(record.pattern, str(record.requests), str(record.running), number(record.sequences, ".2f")),
        *timed_cells(record, ",.0f"),
        number(record.tokens_per_second, ".2f"),
        number(record.first_token, ".1f"),
        number(record.kv_bytes / 2**20, ".1f"),
    )


def _subject(record: ServingSpeedRecord) -> str:
    return f"{record.requests} requests of {record.length:,} tokens to {record.shape}"

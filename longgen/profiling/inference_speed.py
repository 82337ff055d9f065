"""Stage ``inference-speed``: prefill, decoding and KV cache of a model's true shape, and how long a context fits.

The whole model where it fits on the GPU, else composed of slices, which are a few of its layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from longgen.profiling.device import precision_on
from longgen.profiling.inference_records import CACHE, FILLED, SLICES, WHOLE, InferenceCase
from longgen.profiling.rounds import SECONDS_TO_START
from longgen.profiling.session import Budget, Columns, Stage
from longgen.profiling.stacks import MOST_LAYERS, TINY, is_large_for, is_trial, precision_of
from longgen.profiling.table import number, speed_table, timed_cells
from longgen.profiling.workloads import FULL, PATTERNS
from longgen.records.kernels import InferenceSpeedRecord
from longgen.records.schema import UNSUPPORTED
from longgen.records.speed import LONGEST_CONTEXT, MODEL_PREFILL
from longgen.shapes import MODEL_SHAPES, ModelShape

MOST_SEQUENCES = 64  # of a batch
SECONDS_TO_FILL = 60.0  # for the time budget: where memory is filled

_HEADINGS = (
    *("what", "", "model", "tokens", "batch", "layers", "full", "pattern"),
    *("ms", "speed-up", "ideal", "KV GiB", "peak GiB"),
)


class InferenceSpeed(Stage[InferenceCase, InferenceSpeedRecord]):
    """Prefill and decoding with random weights, by the fastest kernels for full attention.

    Args:
        device: ``cpu`` or ``cuda``.
        trial: the code is only tried out, at tiny sizes on a CPU: that and true shapes are not of the same file.
        most_layers: of a slice; fewer where so many do not fit in memory.
        batch: sequences at a time of the cases that it lists itself.
    """

    kind, title, makes_models = "inference-speed", "inference", True

    def __init__(self, device: str, trial: bool, most_layers: int = MOST_LAYERS, batch: int = 1) -> None:
        self.device, self._trial, self._most_layers, self._batch = device, trial, most_layers, batch
        self.settings = {
            "dtype": precision_on(device, trial),
            "tiny": trial,
            "patterns": {pattern: sizes.to_dict() for pattern, sizes in PATTERNS.items()},
        }

    def first_cases(self) -> list[InferenceCase]:
        """The scale of the paper's claims, and what of it fits."""
        shape, length = (TINY, 512) if self._trial else (MODEL_SHAPES["llama2-7b"], 131072)
        return cases_of(shape, [length], self._batch)

    def more_cases(self) -> list[InferenceCase]:
        if self._trial:
            return [InferenceCase(WHOLE, TINY, 256, self._batch)]
        small, large = MODEL_SHAPES["llama2-7b"], MODEL_SHAPES["llama2-70b"]
        cases = [(WHOLE, small, 32768), (SLICES, large, 131072)]  # the weights of 70B alone exceed one GPU
        cases += [(WHOLE, small, length) for length in (65536, 8192, 16384, 4096)]
        cases += [(SLICES, large, length) for length in (32768, 65536, 8192, 16384, 4096)]
        return [InferenceCase(how, shape, length, self._batch) for how, shape, length in cases]

    def identities(self, case: InferenceCase) -> list[Columns]:
        same = {"shape": case.shape.name, "batch": case.batch}
        if case.how != FILLED:  # whose lengths are results
            same["length"] = case.length
        return [{"what": what, "composed": composed, **same} for what, composed in case.kinds]

    def blank(self, case: InferenceCase) -> InferenceSpeedRecord:
        return case.record(case.kinds[0][0], precision_of(self.device, case.shape))

    def seconds_to_start(self, case: InferenceCase) -> float:
        filling = case.how in (FILLED, CACHE) and not is_trial(self.device, case.shape)
        return SECONDS_TO_FILL if filling else SECONDS_TO_START

    def resolve(self, case: InferenceCase, records: Sequence[InferenceSpeedRecord]) -> InferenceCase | None:
        """With its length: where full attention does not fit, the longest at which it does; None without need."""
        if case.how == FILLED or case.length is not None:
            return case
        full = [
            record
            for record in records
            if (record.shape, record.batch, record.pattern) == (case.shape.name, case.batch, FULL)
            and not record.composed
        ]
        longest = max((record.length or 0 for record in full if record.what == LONGEST_CONTEXT), default=0)
        too_long = any(
            record.what == MODEL_PREFILL and record.status == UNSUPPORTED and record.length > longest for record in full
        )
        return replace(case, length=longest) if longest and too_long else None

    def measure(self, case: InferenceCase, budget: Budget) -> list[InferenceSpeedRecord]:
        from longgen.profiling import inference_measure

        if case.how == SLICES:
            return inference_measure.measure_slices(case, self.device, budget, self._most_layers)
        if case.how == WHOLE:
            return inference_measure.measure_whole(case, self.device, budget)
        return {FILLED: inference_measure.fill, CACHE: inference_measure.count_caches}[case.how](case, self.device)

    def table(self, records: Sequence[InferenceSpeedRecord]) -> str:
        return speed_table(_HEADINGS, records, _cells, _subject, keys=8, words=3)


def check_batch(batch: int) -> str | None:
    """Why there cannot be ``batch`` sequences, in words; None if there can."""
    return None if 1 <= batch <= MOST_SEQUENCES else f"--batch is {batch}: allowed are 1..{MOST_SEQUENCES}"


def cases_of(shape: ModelShape, lengths: list[int], batch: int = 1, device: str = "cuda") -> list[InferenceCase]:
    """All that there is to know of one model, in order of what is missed most; at true shapes on a CPU, of its layers.

    There the whole model would take hours.
    """
    longest, others = max(lengths), [length for length in dict.fromkeys(lengths) if length != max(lengths)]
    if is_large_for(device, shape):
        cases: list[tuple[str, int | None]] = [(SLICES, longest), (CACHE, longest)]
        cases += [(SLICES, length) for length in others]
    else:
        cases = [(SLICES, longest), (WHOLE, longest), (CACHE, longest), (FILLED, None), (WHOLE, None)]
        cases += [(how, length) for length in others for how in (WHOLE, SLICES)]
    return [InferenceCase(how, shape, length, batch) for how, length in cases]


def _cells(record: InferenceSpeedRecord) -> tuple[str, ...]:
    origin = "composed" if record.composed else "fits" if record.what == LONGEST_CONTEXT else "measured"
    return (
        *(record.what, origin, record.shape, f"{record.length:,}", str(record.batch)),
        *(str(record.num_layers), str(record.full_layers), str(record.pattern)),
        *timed_cells(record, ",.2f"),
        number(record.ideal_speedup, ".3f"),
        *(number(size and size / 2**30, ".2f") for size in (record.kv_bytes, record.peak_bytes)),
    )


def _subject(record: InferenceSpeedRecord) -> str:
    # its length may be null: that of a longest context is a result
    tokens = "" if record.length is None else f" at {record.length:,} tokens, batch {record.batch}"
    stack = "" if record.pattern is None else f", {record.full_layers} full layers, {record.pattern}"
    return f"{record.what} of {record.shape}{tokens}{stack}"

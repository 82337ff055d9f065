"""Stage ``kernel-checks``: every kernel against a reference in higher precision, on fresh random inputs.

Small calls of every mode are compared with the dense float64 reference, large ones with the blocked path in float32.
The error is the norm of the difference over the norm of the reference; memory that a kernel leaves unwritten is NaN,
which never passes.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context

import torch

from longgen.attention import PackedDocuments
from longgen.attention.call import AttentionCall, one_by_one
from longgen.attention.dispatch import BACKENDS
from longgen.attention.full import EVERYTHING
from longgen.attention.reference import reference_attention
from longgen.attention.triton_attention import triton_attention
from longgen.attention.triton_decode import triton_decode
from longgen.orphans import end_with_parent
from longgen.pattern import SparsePattern
from longgen.profiling.session import Budget, Stage
from longgen.profiling.workloads import LLAMA2_7B, LLAMA2_70B, PATTERNS, TINY, HeadShape, dtype_name
from longgen.records.kernels import KernelCheckRecord
from longgen.records.schema import FAILED

# What rounding the softmax weights and the result to the dtype costs, with room (our choice).
TOLERANCES = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-4}
PAPER_LENGTH = 131072  # tokens
TENSORS = ("output", "grad query", "grad key", "grad value")
WORKERS = 8  # that compile at the same time


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        what: kernels and mode.
        shape: heads.
        length: tokens.
        pattern: in words.
        dtype: of the inputs.
        errors: makes the inputs, runs both sides, and gives a relative error for every tensor compared.
        small: leaves room on the device for others at the same time.
    """

    what: str
    shape: HeadShape
    length: int
    pattern: str
    dtype: torch.dtype
    errors: Callable[[], dict[str, float]]
    small: bool = False


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over the norm of what is expected; NaN where either has one."""
    actual, expected = actual.detach(), expected.detach()
    return float((actual.to(expected.dtype) - expected).norm() / expected.norm())


@contextlib.contextmanager
def unwritten_memory_is_nan() -> Iterator[None]:
    """Make PyTorch fill what it allocates with NaN."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _random(shape: HeadShape, q_len: int, kv_len: int, dtype: torch.dtype, device: str) -> list[torch.Tensor]:
    sizes = [(1, q_len, shape.num_heads), *[(1, kv_len, shape.num_kv_heads)] * 2]
    return [torch.randn(*size, shape.head_dim, device=device).to(dtype).transpose(1, 2) for size in sizes]


def _compare(
    shape: HeadShape, q_len: int, call: AttentionCall, dtype: torch.dtype, device: str, small: bool, gradients: bool
) -> dict[str, float]:
    """Errors of the kernels, against the dense reference in float64 if ``small``, else the blocked path in float32."""
    kv_len = call.query_offset + q_len
    inputs = _random(shape, q_len, kv_len, dtype, device)
    exact = [tensor.to(torch.float64 if small else torch.float32).requires_grad_(gradients) for tensor in inputs]
    attend = one_by_one(reference_attention) if small else BACKENDS["blocked"].attend
    expected = attend(exact[0], exact[1], exact[2], replace(call, pruned=False))
    if call.pruned:
        past = torch.tensor(call.pattern.kept_positions(call.query_offset, call.head_offset), device=device)
        index = torch.cat([past, torch.arange(call.query_offset, kv_len, device=device)])
        inputs[1:] = [tensor[:, :, index] for tensor in inputs[1:]]
    query, key, value = inputs = [tensor.requires_grad_(gradients) for tensor in inputs]
    with unwritten_memory_is_nan():
        output, _ = triton_attention(query, key, value, call)
        if not gradients:
            return {"output": relative_error(output, expected)}
        direction = torch.randn_like(output)
        grads = torch.autograd.grad(output, inputs, direction)
    expected_grads = torch.autograd.grad(expected, exact, direction.to(expected.dtype))
    pairs = zip(TENSORS, (output, *grads), (expected, *expected_grads), strict=True)
    return {name: relative_error(actual, right) for name, actual, right in pairs}


def _decode_errors(shape: HeadShape, kv_len: int, dtype: torch.dtype, device: str, limited: bool) -> dict[str, float]:
    query, key, value = _random(shape, 1, kv_len, dtype, device)
    key, value = key.contiguous(), value.contiguous()
    lengths = torch.tensor([max(1, kv_len - 7)], device=device) if limited else None
    mask = None
    valid = torch.ones(1, kv_len, dtype=torch.bool, device=device)
    if lengths is not None:
        mask = torch.rand(1, kv_len, device=device) < 0.5
        mask[:, 0] = True
        valid = mask & (torch.arange(kv_len, device=device) < lengths[:, None])
    with unwritten_memory_is_nan():
        output = triton_decode(query, key, value, shape.head_dim**-0.5, lengths, mask)
    group = shape.num_heads // shape.num_kv_heads
    grouped = query.double().unflatten(1, (-1, group))[:, :, :, 0]
    scores = grouped @ key.double().transpose(-1, -2) * shape.head_dim**-0.5
    expected = scores.masked_fill(~valid[:, None, None], -torch.inf).softmax(-1) @ value.double()
    return {"output": relative_error(output, expected.flatten(1, 2)[:, :, None])}


def _same_twice(
    shape: HeadShape, length: int, call: AttentionCall, dtype: torch.dtype, device: str
) -> dict[str, float]:
    """0 if the backward pass gives the same bits twice."""
    query, key, value = inputs = [tensor.requires_grad_() for tensor in _random(shape, length, length, dtype, device)]
    direction = torch.randn_like(query)
    first, second = (
        torch.autograd.grad(triton_attention(query, key, value, call)[0], inputs, direction) for _ in range(2)
    )
    return {name: float((one != other).any()) for name, one, other in zip(TENSORS[1:], first, second, strict=True)}


def small_checks(device: str, length: int = 517) -> Iterator[Check]:
    """Every mode of every kernel at odd sizes, against the dense reference."""
    modes: list[tuple[str, SparsePattern, tuple[str, ...]]] = [
        ("sink + window", SparsePattern(64, 1, 3), ()),
        ("stride", SparsePattern(32, 2, 2, 3), ()),
        ("no sink", SparsePattern(16, 0, 1, 2), ()),
        ("large blocks", SparsePattern(128, 1, 2, 2), ()),
        ("staggered heads", SparsePattern(32, 1, 2, 4), ("staggered",)),
        ("query offset", SparsePattern(64, 1, 2, 3), ("offset",)),
        ("pruned cache", SparsePattern(64, 1, 2, 3), ("offset", "pruned")),
        ("packed documents", SparsePattern(64, 1, 2, 3), ("packed",)),
        ("full attention", EVERYTHING, ()),
    ]
    # of three dtypes and four shapes every mode meets others
    heads = ((4, 4, 64), (8, 2, 128), (2, 1, 96), (4, 2, 80))
    shapes = itertools.cycle(HeadShape("small", *sizes) for sizes in heads)
    for (mode, pattern, options), dtype in itertools.product(modes, TOLERANCES):
        shape = next(shapes)
        offsets = (1 if pattern.stride else 0,) * shape.num_kv_heads
        if "staggered" in options:
            offsets = replace(pattern, staggered=True).head_offsets(shape.num_kv_heads)
        packed = (
            PackedDocuments.of_lengths([1, length // 3, length - 1 - length // 3], device)
            if "packed" in options
            else None
        )
        offset = length * 2 // 3 if "offset" in options else 0
        call = AttentionCall(pattern, shape.head_dim**-0.5, offset, offsets, "pruned" in options, packed)
        run = partial(_compare, shape, length, call, dtype, device, small=True, gradients=not call.pruned)
        yield Check(mode, shape, length, _words(pattern), dtype, run, True)
    wide = HeadShape("small", 2, 2, 256)
    call = wide.call(SparsePattern(64, 1, 2, 3))
    for dtype in TOLERANCES:
        run = partial(_compare, wide, length, call, dtype, device, small=True, gradients=True)
        yield Check("head_dim 256", wide, length, _words(call.pattern), dtype, run, True)
    decoding = (HeadShape("small", 4, 4, 64), HeadShape("small", 16, 2, 128))
    for shape, dtype, limited in itertools.product(decoding, TOLERANCES, (False, True)):
        what = "decode, lengths and mask" if limited else "decode"
        run = partial(_decode_errors, shape, 2 * length + 1, dtype, device, limited)
        yield Check(what, shape, 2 * length + 1, "full", dtype, run, True)


def large_checks(device: str, lengths: list[int], shapes: list[HeadShape], dtype: torch.dtype) -> Iterator[Check]:
    """The shapes that are timed, against the blocked path in float32."""
    for length, shape in itertools.product(lengths, shapes):
        for name, pattern in PATTERNS.items():
            call = shape.call(pattern)
            run = partial(_compare, shape, length, call, dtype, device, small=False, gradients=True)
            yield Check("forward and backward", shape, length, name, dtype, run)
        yield Check(
            "decode", shape, length, "full", dtype, partial(_decode_errors, shape, length, dtype, device, False)
        )
    shape, length = shapes[0], lengths[0]
    run = partial(_same_twice, shape, length, shape.call(PATTERNS["stride-16"]), dtype, device)
    yield Check("the same bits twice", shape, length, "stride-16", dtype, run)


def far_check(device: str, dtype: torch.dtype, total: int = 2**20, chunk: int = 2048) -> Check:
    """The last queries of a million tokens, whose keys lie beyond 2^31 elements."""
    call = LLAMA2_7B.call(PATTERNS["stride-16"], total - chunk)
    run = partial(_compare, LLAMA2_7B, chunk, call, dtype, device, small=False, gradients=False)
    return Check("beyond 2^31 elements", LLAMA2_7B, total, "stride-16", dtype, run)


def _words(pattern: SparsePattern) -> str:
    if pattern == EVERYTHING:
        return "full"
    stride = f", stride {pattern.stride}" if pattern.stride else ""
    return f"blocks of {pattern.block_size}, {pattern.sink_blocks} + {pattern.local_blocks}{stride}"


class KernelChecks(Stage[Check, KernelCheckRecord]):
    """Comparisons, of each a record for every tensor.

    Args:
        device: ``cpu`` or ``cuda``.
        dtype: of what is timed in the same run.
        tiny: small sizes, to try the code.
    """

    kind, title, unit = "kernel-checks", "checks", "check"
    key = ("what", "shape", "num_heads", "num_kv_heads", "head_dim", "length", "pattern", "dtype")

    def __init__(self, device: str, dtype: torch.dtype, tiny: bool) -> None:
        self.device, self.settings = device, {"dtype": dtype_name(dtype), "tiny": tiny}
        self._checks = all_checks(device, tiny)
        self._ahead: dict[Check, Future[dict[str, float]]] = {}

    def first_cases(self) -> list[Check]:
        """Of what the paper's claims are timed with: the heads of Llama-2 7B at 128K tokens."""
        return [check for check in self._checks if (check.shape, check.length) == (LLAMA2_7B, PAPER_LENGTH)]

    def more_cases(self) -> list[Check]:
        return self._checks

    def blank(self, case: Check) -> KernelCheckRecord:
        return KernelCheckRecord.blank(
            what=case.what,
            **case.shape.columns(),
            length=case.length,
            pattern=case.pattern,
            dtype=dtype_name(case.dtype),
            tolerance=TOLERANCES[case.dtype],
        )

    @contextlib.contextmanager
    def prepare(self, cases: Sequence[Check]) -> Iterator[None]:
        """On a GPU most of the time of small ones is that of the compiler: several processes share it."""
        small = [check for check in cases if check.small] if self.device != "cpu" else []
        if not small:
            yield
            return
        pool = ProcessPoolExecutor(WORKERS, get_context("spawn"), end_with_parent)
        try:
            self._ahead = {
                check: pool.submit(_errors, number, self.device)
                for number, check in enumerate(self._checks)
                if check in small
            }
            yield
        finally:
            pool.shutdown(cancel_futures=True)  # what there was no time for must not take any
            self._ahead = {}

    def measure(self, case: Check, budget: Budget) -> list[KernelCheckRecord]:
        errors = self._ahead[case].result() if case in self._ahead else case.errors()
        return [_judged(replace(self.blank(case), tensor=tensor), error) for tensor, error in errors.items()]

    def table(self, records: Sequence[KernelCheckRecord]) -> str:
        """Every check that did not pass, and the largest error of every dtype among those that did."""
        lines, reasons = [], Counter[str]()
        for record in records:
            if record.passed is None:
                reasons[f"{record.status}: {record.reason}"] += 1
            elif not record.passed:
                heads = f"{record.num_heads}/{record.num_kv_heads} heads of {record.head_dim}"
                error = record.reason or f"error {record.error:.1e}, allowed {record.tolerance:.0e}"
                where = f"{record.dtype}, {heads}, {record.length:,} tokens, {record.pattern}"
                lines.append(f"WRONG: {record.what}, {record.tensor}: {error} ({where})")
        lines += [f"{reason} ({count} checks)" for reason, count in reasons.items()]
        for dtype in dict.fromkeys(record.dtype for record in records):
            errors = [record.error for record in records if record.dtype == dtype and record.passed]
            if errors:
                lines.append(f"{dtype}: {len(errors)} comparisons passed, largest relative error {max(errors):.1e}")
        return "\n".join(lines)


def _judged(record: KernelCheckRecord, error: float) -> KernelCheckRecord:
    if not math.isfinite(error):  # JSON knows no NaN
        return replace(record, passed=False, status=FAILED, reason="the result is not a number")
    return replace(record, error=error, passed=error <= record.tolerance)


def _errors(number: int, device: str) -> dict[str, float]:
    """In a process of its own, which knows checks by their number in the list."""
    torch.manual_seed(number)
    return all_checks(device, tiny=False)[number].errors()


def all_checks(device: str, tiny: bool) -> list[Check]:
    """What the command runs, in order: small before large."""
    if tiny:
        return [*small_checks(device, 50), *large_checks(device, [100], [TINY], torch.float32)]
    large = large_checks(device, [4096, 32768, PAPER_LENGTH], [LLAMA2_7B, LLAMA2_70B], torch.bfloat16)
    return [*small_checks(device), *large, far_check(device, torch.bfloat16)]

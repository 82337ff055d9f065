"""The compile gate: every shipped variant of the kernels compiles, fits, spills nothing, and uses the tensor cores.

    python -m tests.aot.gate            # the variants that CI compiles, for sm_80 and sm_90
    python -m tests.aot.gate --all      # every dtype, head_dim, pattern and mode

Must not run with TRITON_INTERPRET=1. Ends with status 1 if a variant fails.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import torch
import triton

from longgen.attention import PackedDocuments
from longgen.attention.call import AttentionCall
from longgen.attention.triton_attention import backward, forward
from longgen.attention.triton_decode import triton_decode
from longgen.pattern import SparsePattern
from tests.aot.compiler import SHARED_MEMORY, Compiled, absent_gpu

SINK, STRIDE = SparsePattern(64, 1, 16), SparsePattern(64, 1, 16, 16)
LENGTH = 4096


class Variant(NamedTuple):
    """One way to call the launch code."""

    what: str
    dtype: torch.dtype
    head_dim: int
    heads: int
    kv_heads: int
    pattern: SparsePattern

    def __str__(self) -> str:
        heads = f"{self.heads}/{self.kv_heads} heads of {self.head_dim:3}"
        pattern = f"blocks of {self.pattern.block_size:3}, stride {self.pattern.stride:2}"
        return f"{self.what:8} {str(self.dtype)[6:]:8} {heads}, {pattern}"


def variants(everything: bool) -> Iterator[Variant]:
    """What to compile."""
    whats = ("forward", "packed", "pruned", "backward", "decode")
    if everything:
        for what, dtype, head_dim, heads, pattern in itertools.product(
            whats,
            (torch.bfloat16, torch.float16, torch.float32),
            (64, 96, 128, 256),
            ((32, 32), (64, 8)),
            (SINK, STRIDE, SparsePattern(16, 1, 8, 8), SparsePattern(128, 1, 8, 8)),
        ):
            yield Variant(what, dtype, head_dim, *heads, pattern)
        return
    for what in whats:
        yield Variant(what, torch.bfloat16, 128, 32, 32, STRIDE)
    for what in ("forward", "backward", "decode"):
        yield Variant(what, torch.bfloat16, 128, 64, 8, SINK)
        yield Variant(what, torch.float16, 64, 32, 8, STRIDE)
        yield Variant(what, torch.bfloat16, 256, 16, 8, SINK)
        yield Variant(what, torch.bfloat16, 96, 32, 32, SINK)
        yield Variant(what, torch.float32, 128, 32, 32, STRIDE)


def compile_variant(variant: Variant, capability: int) -> list[Compiled]:
    """Compile all kernels that a call of ``variant`` launches."""
    shape = (1, variant.heads, LENGTH, variant.head_dim)
    query = torch.empty(shape, dtype=variant.dtype)
    key, value = (query[:, : variant.kv_heads].contiguous() for _ in range(2))
    offsets = (0,) * variant.kv_heads
    with absent_gpu(capability) as compiled:
        match variant.what:
            case "decode":
                lengths, mask = torch.zeros(1, dtype=torch.int64), torch.ones(1, LENGTH, dtype=torch.bool)
                triton_decode(query[:, :, :1], key, value, 0.1)
                triton_decode(query[:, :, :1], key, value, 0.1, lengths, mask)
            case "backward":
                lse = torch.empty(shape[:3], dtype=torch.float32)
                backward(query, query, key, value, query, lse, AttentionCall(variant.pattern, 0.1, 0, offsets))
            case "packed":
                packed = PackedDocuments.of_lengths([LENGTH // 8] * 8)
                forward(query, key, value, AttentionCall(variant.pattern, 0.1, 0, offsets, packed=packed))
            case what:
                forward(query, key, value, AttentionCall(variant.pattern, 0.1, LENGTH, offsets, what == "pruned"))
    return compiled


def problems(compiled: Compiled, variant: Variant, capability: int) -> list[str]:
    """Why a kernel must not ship."""
    found = [f"ptxas: {warning}" for warning in compiled.warnings]
    if compiled.spilled:
        found.append(f"{compiled.spilled} bytes spilled")
    if compiled.shared > SHARED_MEMORY[capability]:
        found.append(f"{compiled.shared} bytes of shared memory")
    if variant.dtype != torch.float32 and compiled.kernel not in WITHOUT_MATRICES:
        # wgmma takes 64 rows: the heads of a group are fewer, tiles of keys are no larger than a block of the pattern,
        # and at head_dim 256 they are halved
        few_keys = variant.head_dim > 128 or variant.pattern.block_size < 64
        small = variant.what == "decode" or (few_keys and compiled.kernel in BY_KEYS)
        wanted = "wgmma" if capability >= 90 and not small else "mma"
        if wanted not in compiled.tensor_cores:
            found.append(f"no {wanted}")
    return found


WITHOUT_MATRICES = ("delta_kernel", "merge_kernel")
BY_KEYS = ("far_keys_kernel", "keys_kernel")


def main() -> None:
    """Compile and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every dtype, head_dim, pattern and mode")
    parser.add_argument("--capability", type=int, choices=sorted(SHARED_MEMORY), action="append")
    parser.add_argument("--only", help="variants whose description has this in it")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="that compile; as many as cores")
    arguments = parser.parse_args()
    start, count, failed = time.perf_counter(), 0, 0
    tasks = [
        (variant, capability)
        for capability in arguments.capability or sorted(SHARED_MEMORY)
        for variant in variants(arguments.all)
        if not arguments.only or arguments.only in str(variant)
    ]
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        # in the order of the tasks, whichever is done first
        for (variant, capability), launched in zip(
            tasks, pool.map(compile_variant, *zip(*tasks, strict=True)), strict=True
        ):
            for compiled in launched:
                found = problems(compiled, variant, capability)
                count, failed = count + 1, failed + bool(found)
                cores = "+".join(compiled.tensor_cores) or "-"
                print(
                    f"{'FAIL' if found else 'ok  '} sm_{capability} {variant} {compiled.kernel:16} "
                    f"{compiled.registers:3} registers {compiled.shared / 1024:5.0f} KiB {cores:9} {'; '.join(found)}",
                    flush=True,
                )
    print(f"Triton {triton.__version__}: {count} kernels, {failed} failed, {time.perf_counter() - start:.0f} s")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()

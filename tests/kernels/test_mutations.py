"""Do the tests bite? Bugs are sown into the kernels, and what these tests check must catch every one."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import longgen.kernels.decode
from longgen.attention import PackedDocuments
from longgen.attention.triton_attention import triton_attention
from longgen.attention.triton_decode import triton_decode
from longgen.pattern import SparsePattern
from tests.kernels.cases import Case, dense, inputs
from tests.kernels.interpreter import checked_memory

FOLDER = Path(longgen.kernels.decode.__file__).parent
MODULES = ("pattern", "forward", "backward", "decode")  # what imports comes after what it imports

CASES = [
    Case(SparsePattern(16, 1, 2, 3), 0, 85, 1, 2, 2, 24, 0, False, 1),
    Case(SparsePattern(16, 2, 1, 2), 0, 100, 1, 2, 1, 16, 1, True, 2),
    Case(SparsePattern(32, 0, 2, 3), 37, 90, 2, 1, 2, 16, 0, False, 3),
]
PRUNED = Case(SparsePattern(16, 1, 2, 3), 90, 40, 1, 1, 1, 16, 0, False, 4)
PACKED, STARTS = Case(SparsePattern(16, 1, 2, 3), 0, 100, 1, 1, 1, 16, 0, False, 5), [0, 33, 34, 100]

# name -> module, what is there, the bug
BUGS = {
    "window one block too short": ("forward", "lowest - LOCAL_BLOCKS + 1", "lowest - LOCAL_BLOCKS + 2"),
    "interior begins too early": ("forward", "highest - LOCAL_BLOCKS + 1", "highest - LOCAL_BLOCKS"),
    "strided blocks counted one too few": ("pattern", "(below + offset) // STRIDE", "(below + offset - 1) // STRIDE"),
    "strided blocks begin among the sinks": ("pattern", "((SINK_BLOCKS + offset) // STRIDE + 1", "(0 + 1"),
    "head offset forgotten": ("pattern", "* STRIDE - 1 - offset", "* STRIDE - 1"),
    "staggering forgotten": ("pattern", "return base + kv_head * STRIDE // KV_HEADS", "return base"),
    "a token does not see itself": ("pattern", "(key_position <= query_position)", "(key_position < query_position)"),
    "heads grouped the other way": ("forward", "head // (HEADS // KV_HEADS)", "head % KV_HEADS"),
    "accumulator not rescaled": ("forward", "accumulator * rescale[:, None]", "accumulator"),
    "maximum not kept": ("forward", "larger = tl.maximum(maximum, tl.max(scores, 1))", "larger = tl.max(scores, 1)"),
    "keys read past the end": ("forward", "valid = key_position + n < kv_len", "valid = key_position + n >= 0"),
    "output written past the end": (
        "forward",
        "output.to(O.dtype.element_ty), mask=real[:, None] & ",
        "output.to(O.dtype.element_ty), mask=(m >= 0)[:, None] & ",
    ),
    "scores of interior tiles not scaled": (
        "forward",
        "tl.exp2(scores * qk_scale - larger[:, None])",
        "tl.exp2(scores - larger[:, None])",
    ),
    "lse without its sum": ("forward", "(maximum + tl.log2(total))", "maximum"),
    "lse in base 2": ("forward", "0.6931471805599453", "1.0"),
    "pruned cache one block off": ("forward", "(kept_far - kept_from)", "(kept_far - kept_from + 1)"),
    "documents begin at the row's start": ("forward", "first_token * stride_kt", "first_token * 0"),
    "delta ignored": ("backward", "weights * (grad_weights - delta[:, None])", "weights * grad_weights"),
    "dq unscaled": ("backward", "(grad * scale)", "(grad)"),
    "dk sums one head of the group": ("backward", "kv_head * GROUP + step // count", "kv_head * GROUP"),
    "last tile of queries left out": (
        "backward",
        "count = tl.maximum(end - begin, 0)",
        "count = tl.maximum(end - begin - 1, 0)",
    ),
    "a split of a long column left out": ("backward", "tl.range(0, splits)", "tl.range(1, splits)"),
    "long columns begin a block late": (
        "backward",
        "beyond = tl.maximum((block + LOCAL_BLOCKS)",
        "beyond = tl.maximum((block + LOCAL_BLOCKS + 1)",
    ),
    "partial sums of another tile": (
        "backward",
        "far_rank(block, offset, SINK_BLOCKS, STRIDE) * PARTS + tile % PARTS",
        "tile",
    ),
    "two programs write one tile": (
        "backward",
        "keys = tile * BLOCK_N + tl.arange(0, BLOCK_N)",
        "keys = tile // 2 * BLOCK_N + tl.arange(0, BLOCK_N)",
    ),
    "a split of the cache too short": ("decode", "split * each + each, tiles)", "split * each + each - 1, tiles)"),
    "splits merged without their maxima": ("decode", "tl.exp2(maximum - tl.max(maximum, 0))", "tl.exp2(maximum * 0)"),
    "keys behind the length attended to": ("decode", "valid = columns < length", "valid = columns < kv_len"),
    "mask ignored": (
        "decode",
        "(tl.load(Mask + row * stride_mb + columns, mask=valid, other=0) != 0)",
        "(columns >= 0)",
    ),
}


def check() -> None:
    """A little of everything that the other files test; raises at the first thing that is wrong."""
    for case in CASES:
        tensors = [tensor.requires_grad_() for tensor in inputs(case)]
        exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
        expected, expected_lse = dense(*exact, case)
        direction = torch.randn(expected.shape)
        with checked_memory(*tensors, direction):
            output, lse = triton_attention(*tensors, case.call())
            gradients = torch.autograd.grad(output, tensors, direction)
        wanted = torch.autograd.grad(expected, exact, direction.double())
        for got, want in zip((output, lse, *gradients), (expected, expected_lse, *wanted), strict=True):
            torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=1e-3)
    query, key, value = inputs(PRUNED)
    past = PRUNED.pattern.kept_positions(PRUNED.offset)
    kept = np.append(past, np.arange(PRUNED.offset, PRUNED.offset + PRUNED.q_len))
    pruned = [query, key[:, :, kept].contiguous(), value[:, :, kept].contiguous()]
    with checked_memory(*pruned):
        output, _ = triton_attention(*pruned, PRUNED.call(pruned=True))
    torch.testing.assert_close(output.double(), dense(query, key, value, PRUNED)[0], rtol=1e-3, atol=1e-3)
    tensors, packed = inputs(PACKED), PackedDocuments.of_lengths(np.diff(STARTS).tolist())
    documents = np.repeat(np.arange(len(STARTS) - 1), np.diff(STARTS))
    with checked_memory(*tensors, packed.cu_seqlens):
        output, _ = triton_attention(*tensors, PACKED.call(packed=packed))
    torch.testing.assert_close(output.double(), dense(*tensors, PACKED, documents)[0], rtol=1e-3, atol=1e-3)
    query, (key, value) = torch.randn(2, 2, 1, 16), torch.randn(2, 2, 1, 200, 16)
    lengths, mask = torch.tensor([200, 131]), torch.rand(2, 200) < 0.7
    mask[:, 0] = True
    with checked_memory(query, key, value, lengths, mask):
        output = triton_decode(query, key, value, 0.5, lengths, mask, splits=4)
    scores = query.double() @ key.double().transpose(-1, -2) * 0.5
    valid = (mask & (torch.arange(200) < lengths[:, None]))[:, None, None]
    expected = scores.masked_fill(~valid, -torch.inf).softmax(-1) @ value.double()
    torch.testing.assert_close(output.double(), expected, rtol=1e-3, atol=1e-3)


def load_kernels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the modules in ``folder`` those that `longgen.kernels` has."""
    for name in MODULES:
        full_name = f"longgen.kernels.{name}"
        spec = importlib.util.spec_from_file_location(full_name, folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, full_name, module)
        spec.loader.exec_module(module)


def sow(folder: Path, module: str = "", there: str = "", bug: str = "") -> None:
    for name in MODULES:
        source = (FOLDER / f"{name}.py").read_text()
        if name == module:
            assert there in source, f"{there} is no longer in {name}.py"
            source = source.replace(there, bug)
        (folder / f"{name}.py").write_text(source)


def test_the_kernels_as_they_are_pass(tmp_path, monkeypatch):
    sow(tmp_path)
    load_kernels(tmp_path, monkeypatch)
    check()


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_is_caught(name, tmp_path, monkeypatch):
    sow(tmp_path, *BUGS[name])
    load_kernels(tmp_path, monkeypatch)
    torch.manual_seed(0)
    with pytest.raises(Exception):  # noqa: B017 - wrong numbers, bounds, races: each is a way to be caught
        check()

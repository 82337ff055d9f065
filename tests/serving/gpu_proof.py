"""What vLLM's GPU backends make of a sparse layer, without a GPU: `make serving-test`, in a process of its own.

TRITON_ATTN runs whole: the layer, its metadata and vLLM's own kernels, by Triton's interpreter. Of FLASH_ATTN, whose
kernels are binary, everything runs but these: in their place stands what they document, causal attention over a block
table.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

from tests.serving.interpreter import is_interpreted  # isort: skip # before vLLM is imported
from tests.serving import engine as small  # isort: skip # the same

import pytest
import torch
from vllm import EngineArgs
from vllm.config import CompilationConfig, CompilationMode, CUDAGraphMode, VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.attention import Attention
from vllm.v1.attention.backend import AttentionBackend, AttentionCGSupport, CommonAttentionMetadata
from vllm.v1.attention.backends import flash_attn
from vllm.v1.attention.backends.flash_attn import FlashAttentionBackend
from vllm.v1.attention.backends.flex_attention import FlexAttentionBackend
from vllm.v1.attention.backends.triton_attn import TritonAttentionBackend
from vllm.v1.attention.ops.triton_reshape_and_cache_flash import triton_reshape_and_cache_flash
from vllm.v1.attention.ops.triton_unified_attention import kernel_unified_attention
from vllm.v1.worker.utils import AttentionGroup

from longgen.attention.call import AttentionCall
from longgen.attention.reference import reference_attention
from longgen.errors import ConfigError
from longgen.pattern import SparsePattern
from longgen.serving.blocks import blocks_in_sight
from longgen.serving.vllm.attention import SparseAttention

HEADS, KV_HEADS, HEAD_SIZE = 4, 2, 32
SCALE = HEAD_SIZE**-0.5
NOISE = 2e-5  # of values of size 1 in float32
CPU = torch.device("cpu")
SINK = SparsePattern(block_size=32, sink_blocks=1, local_blocks=2)
STRIDE = SparsePattern(block_size=32, sink_blocks=1, local_blocks=1, stride=3)
EVERYTHING = SparsePattern(block_size=32, local_blocks=1000)

Requests = list[tuple[int, int]]  # tokens before, new ones
FAR = (201, 1)  # of whose past both patterns free something
# besides: chunks of a prompt from the middle of a block and from 0, and a request shorter than a block
MIXED: Requests = [(75, 70), (0, 40), FAR, (9, 1), (0, 5)]
# without and with a chunk that has a token on each side of the end of a block: vLLM's kernel splits the keys of both
DECODING: Requests = [FAR, (96, 1), (9, 1), (0, 1), (127, 1)]
ENDS: Requests = [(31, 2), FAR]

both_patterns = pytest.mark.parametrize("pattern", [SINK, STRIDE], ids=["sink", "stride"])
both_backends = pytest.mark.parametrize(
    "backend", [TritonAttentionBackend, FlashAttentionBackend], ids=lambda backend: backend.get_name()
)
all_requests = pytest.mark.parametrize("requests", [MIXED, DECODING, ENDS], ids=["mixed", "decoding", "ends"])
both_sizes = pytest.mark.parametrize("block_size", [16, 32])


class Batch(NamedTuple):
    """Requests, and how vLLM hands them to a layer.

    Attributes:
        requests: what each is.
        query: [new tokens, query heads, head size] of all.
        key: [length, KV heads, head size] of each, from its first token on.
        value: like ``key``.
        common: what a model runner says of them.
        kv_cache: [blocks, KV heads, block size, 2 * head size]; `small.POISON` where no query looks.
    """

    requests: Requests
    query: torch.Tensor
    key: list[torch.Tensor]
    value: list[torch.Tensor]
    common: CommonAttentionMetadata
    kv_cache: torch.Tensor


@pytest.fixture(autouse=True)
def _of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the host's side of a backend asks of a GPU, and what is made for GPUs alone."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))  # how large a tile may be
    monkeypatch.setattr(flash_attn, "reshape_and_cache_flash", triton_reshape_and_cache_flash, raising=False)
    monkeypatch.setattr(flash_attn, "flash_attn_varlen_func", causal_attention, raising=False)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> VllmConfig:
    folder = small.make_hybrid(tmp_path_factory.mktemp("models") / "model")
    return EngineArgs(str(folder), skip_tokenizer_init=True, dtype="float32", enforce_eager=True).create_engine_config()


def make_layer(backend: type[AttentionBackend], pattern: SparsePattern, config: VllmConfig, block_size: int) -> Any:
    """A sparse layer as `longgen.serving.vllm.models` makes it, and its group as a model runner does."""
    config.compilation_config.static_forward_context.clear()
    config.cache_config.block_size = block_size
    with set_current_vllm_config(config):
        sizes = {"num_heads": HEADS, "head_size": HEAD_SIZE, "scale": SCALE, "num_kv_heads": KV_HEADS}
        made = Attention(**sizes, cache_config=config.cache_config, prefix="layers.0.attn", attn_backend=backend)
        layer = SparseAttention(made, pattern, config)
        group = AttentionGroup(layer.attn_backend, [layer.layer_name], layer.get_kv_cache_spec(config), 0)
        group.create_metadata_builders(config, CPU, kernel_block_size=block_size)
    if backend is FlashAttentionBackend:
        layer.impl.vllm_flash_attn_version = 3  # it has none without a GPU
    return layer, group


def make_batch(layer: Any, block_size: int, requests: Requests, pattern: SparsePattern) -> Batch:
    """A batch whose past is in the cache as far as ``pattern`` keeps it; blocks stand in any order."""
    generator = torch.Generator().manual_seed(11)
    lengths = [seen + new for seen, new in requests]
    key, value = ([torch.randn(n, KV_HEADS, HEAD_SIZE, generator=generator) for n in lengths] for _ in "kv")
    starts = torch.tensor([0, *(new for _, new in requests)]).cumsum(0).to(torch.int32)
    query = torch.randn(int(starts[-1]), HEADS, HEAD_SIZE, generator=generator)

    counts = [-(-length // block_size) for length in lengths]
    unused = 7
    ids = (torch.randperm(sum(counts) + unused, generator=generator) + 1).to(torch.int32)  # 0 is the null block
    table = torch.zeros(len(requests), max(counts) + 3, dtype=torch.int32)
    kv_cache = torch.full((len(ids) + 1, KV_HEADS, block_size, 2 * HEAD_SIZE), small.POISON)
    slots = []
    for row, own in enumerate(ids.split([*counts, unused])[:-1]):
        seen = requests[row][0]
        kept = torch.ones(len(own), dtype=torch.bool)
        in_sight = torch.from_numpy(blocks_in_sight(pattern, block_size, seen))  # of the first new token
        kept[: len(in_sight)] = in_sight
        table[row, : len(own)] = own * kept
        places = torch.arange(lengths[row])
        in_cache = own[places // block_size].long() * block_size + places % block_size
        past = torch.where(kept[places // block_size], in_cache, -1)[:seen]  # -1 is not written
        layer.impl.do_kv_cache_update(layer, key[row][:seen], value[row][:seen], kv_cache, past)
        slots.append(in_cache[seen:])
    seq_lens = torch.tensor(lengths, dtype=torch.int32)
    common = CommonAttentionMetadata(
        query_start_loc=starts,
        query_start_loc_cpu=starts,
        seq_lens=seq_lens,
        seq_lens_cpu_upper_bound=seq_lens,
        num_reqs=len(requests),
        num_actual_tokens=len(query),
        max_query_len=max(new for _, new in requests),
        max_seq_len=max(lengths),
        block_table_tensor=table,
        slot_mapping=torch.cat(slots),
    )
    return Batch(requests, query, key, value, common, kv_cache)


def attend(layer: Any, batch: Batch, metadata: Any) -> torch.Tensor:
    """What the layer's implementation says, [tokens, query heads, head size], once the new tokens are in the cache."""
    key, value = (
        torch.cat([rows[seen:] for rows, (seen, _) in zip(parts, batch.requests, strict=True)])
        for parts in (batch.key, batch.value)
    )
    output = torch.full_like(batch.query, torch.nan)
    layer.impl.do_kv_cache_update(layer, key, value, batch.kv_cache, batch.common.slot_mapping)
    layer.impl.forward(layer, batch.query, key, value, batch.kv_cache, metadata, output)
    return output


def dense(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, pattern: SparsePattern) -> torch.Tensor:
    """The dense reference in float64, for queries that are the last tokens; tokens come first."""
    call = AttentionCall(pattern, SCALE, query_offset=len(key) - len(query), head_offsets=(0,))
    query, key, value = (part.double().transpose(0, 1)[None] for part in (query, key, value))
    return reference_attention(query, key, value, call)[0].transpose(0, 1)


def expected(batch: Batch, pattern: SparsePattern) -> torch.Tensor:
    """The dense reference of every request: ``pattern`` alone says who sees whom."""
    queries = batch.query.split([new for _, new in batch.requests])
    return torch.cat([dense(*each, pattern) for each in zip(queries, batch.key, batch.value, strict=True)])


def causal_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, block_table: torch.Tensor, **given: Any
) -> None:
    """In the place of flash-attn's `flash_attn_varlen_func`, for what it is given here."""
    starts, lengths = given["cu_seqlens_q"].tolist(), given["seqused_k"].tolist()
    counts = [last - first for first, last in pairwise(starts)]
    assert len(block_table) == len(lengths) == len(counts) and starts[-1] == len(q) == len(out)
    assert given["max_seqlen_q"] == max(counts) and given["max_seqlen_k"] == max(lengths)
    assert given["causal"] is True and given["window_size"] in (None, [-1, -1]) and given["softmax_scale"] == SCALE
    assert block_table.dtype == torch.int32 and block_table.stride(1) == 1 and k.shape[1] % 16 == 0
    assert given["k_descale"].shape == (len(lengths), KV_HEADS)
    for (first, last), length, row in zip(pairwise(starts), lengths, block_table, strict=True):
        pages = row[: -(-length // k.shape[1])].long()
        out[first:last] = dense(q[first:last], *(part[pages].flatten(0, 1)[:length] for part in (k, v)), EVERYTHING)


def assert_close(said: torch.Tensor, known: torch.Tensor) -> None:
    torch.testing.assert_close(said.double(), known, atol=NOISE, rtol=0)


@both_sizes
@all_requests
@both_patterns
@both_backends
def test_a_query_sees_what_the_pattern_says(backend, pattern, requests, block_size, config):
    layer, group = make_layer(backend, pattern, config, block_size)
    batch = make_batch(layer, block_size, requests, pattern)
    past = batch.common.block_table_tensor[requests.index(FAR), : FAR[0] // block_size]
    assert (past == 0).sum() >= 3, "nothing was freed"
    metadata = group.build_metadata(batch.common)
    if backend is TritonAttentionBackend:
        assert is_interpreted(kernel_unified_attention)
        splits = metadata.max_query_len == 1 and len(metadata.seq_lens) <= metadata.seq_threshold_3D
        assert splits == (requests is not MIXED), "which of its two kernels"
    assert_close(attend(layer, batch, metadata), expected(batch, pattern))


@both_patterns
@both_backends
def test_without_the_cut_it_is_full_attention(backend, pattern, config):
    """The test above bites: with vLLM's own metadata every query sees all that is before it."""
    layer, group = make_layer(backend, pattern, config, 16)
    batch = make_batch(layer, 16, MIXED, EVERYTHING)
    uncut = backend.get_builder_cls()(group.kv_cache_spec, group.layer_names, config, CPU).build(0, batch.common)
    said = attend(layer, batch, uncut)
    assert_close(said, expected(batch, EVERYTHING))
    own = [position // pattern.block_size for seen, new in MIXED for position in range(seen, seen + new)]
    narrow = torch.tensor([len(pattern.visible_blocks(block)) <= block for block in own])
    distance = (said - expected(batch, pattern)).abs().amax((1, 2))
    assert narrow.sum() > 40 and distance[narrow].min() > 1000 * NOISE
    assert (~narrow).sum() > 40 and distance[~narrow].max() < NOISE


@both_patterns
@both_backends
def test_what_fills_up_a_batch_is_left_out(backend, pattern, config):
    """Requests and tokens that a model runner adds for a CUDA graph."""
    layer, group = make_layer(backend, pattern, config, 16)
    batch = make_batch(layer, 16, MIXED, pattern)
    known, nothing = batch.common, torch.zeros(2, dtype=torch.int32)
    starts = torch.cat([known.query_start_loc, nothing + len(batch.query)])
    filled = replace(
        known,
        query_start_loc=starts,
        query_start_loc_cpu=starts,
        seq_lens=torch.cat([known.seq_lens, nothing]),
        seq_lens_cpu_upper_bound=None,  # a runner need not say: then it is asked of the device
        num_reqs=known.num_reqs + 2,
        num_actual_tokens=known.num_actual_tokens + 3,
        block_table_tensor=torch.nn.functional.pad(known.block_table_tensor, (0, 0, 0, 2)),
        slot_mapping=torch.nn.functional.pad(known.slot_mapping, (0, 3), value=-1),
    )
    metadata, plain = group.build_metadata(filled), group.build_metadata(known)
    assert metadata.num_actual_tokens == plain.num_actual_tokens == len(batch.query)
    for name in ("query_start_loc", "seq_lens", "block_table"):
        assert torch.equal(getattr(metadata, name), getattr(plain, name))
    assert_close(attend(layer, batch, metadata), expected(batch, pattern))


@both_backends
def test_a_tile_of_keys_reads_no_further_than_the_table(backend, config):
    """Kernels read the table under a whole tile, past a request's end: vLLM's own is a multiple of 128 tokens wide."""
    layer, group = make_layer(backend, STRIDE, config, 16)
    batch = make_batch(layer, 16, [(75, 6), (9, 1)], STRIDE)
    table = group.build_metadata(batch.common).block_table
    assert table.shape[1] * 16 % 128 == 0
    assert set(table.flatten().tolist()) <= set(batch.common.block_table_tensor.flatten().tolist())


def test_a_group_of_the_same_layers_gets_its_own_block_table(config):
    """vLLM builds metadata once for groups with one spec, where the backend lets it, and then replaces the table."""
    layer, group = make_layer(FlashAttentionBackend, STRIDE, config, 16)
    batch = make_batch(layer, 16, MIXED, STRIDE)
    (builder,) = group.metadata_builders
    assert builder.supports_update_block_table
    other = replace(batch.common, block_table_tensor=batch.common.block_table_tensor * 3 + 1)
    first = group.build_metadata(batch.common)
    second = builder.update_block_table(first, other.block_table_tensor, other.slot_mapping)
    third = builder.update_block_table(second, batch.common.block_table_tensor, other.slot_mapping)
    assert torch.equal(second.block_table, group.build_metadata(other).block_table)
    assert torch.equal(third.block_table, first.block_table) and not torch.equal(second.block_table, first.block_table)


def test_flash_attention_plans_the_pieces(config, monkeypatch):
    """On Hopper the work is planned before: for pieces, and not for requests."""
    layer, group = make_layer(FlashAttentionBackend, STRIDE, config, 16)
    batch, asked, plan = make_batch(layer, 16, MIXED, STRIDE), [], torch.zeros(5)
    planner = lambda **given: asked.append(given) or plan  # noqa: E731
    monkeypatch.setattr(flash_attn, "get_scheduler_metadata", planner, raising=False)
    group.metadata_builders[0].aot_schedule = True
    metadata = group.build_metadata(batch.common)
    (given,) = asked
    assert metadata.scheduler_metadata is plan and given["batch_size"] == len(metadata.seq_lens) > len(MIXED)
    assert given["cache_seqlens"] is metadata.seq_lens and given["cu_seqlens_q"] is metadata.query_start_loc
    assert (given["max_seqlen_q"], given["page_size"], given["causal"], given["num_splits"]) == (32, 16, True, 0)
    assert given["max_seqlen_k"] == metadata.max_seq_len == int(metadata.seq_lens.max())
    assert (metadata.max_dcp_context_kv_len, metadata.dcp_context_kv_lens, metadata.max_num_splits) == (0, None, 0)


@both_backends
def test_no_graph_captures_sparse_attention(backend, config):
    _, group = make_layer(backend, SINK, config, 32)
    support = group.backend.get_builder_cls().get_cudagraph_support(config, group.kv_cache_spec)
    assert support == AttentionCGSupport.NEVER
    for mode in CUDAGraphMode.FULL_AND_PIECEWISE, CUDAGraphMode.FULL_DECODE_ONLY, CUDAGraphMode.PIECEWISE:
        compilation = CompilationConfig(mode=CompilationMode.VLLM_COMPILE, cudagraph_mode=mode)
        chosen = compilation.resolve_cudagraph_mode_and_sizes(support, group.backend.get_name())
        assert not chosen.has_full_cudagraphs()


@pytest.mark.parametrize(
    ("backend", "block_size", "message"),
    [
        (FlexAttentionBackend, 32, "--attention-backend is 'FLEX_ATTENTION': allowed is one of"),
        (TritonAttentionBackend, 8, "block size is 8: allowed is a divisor of the pattern's, 32, for which T"),
        (FlashAttentionBackend, 8, "block size is 8: allowed is a divisor of the pattern's, 32, for which F"),
    ],
    ids=["backend", "triton", "flash"],
)
def test_what_has_no_kernels_is_refused(backend, block_size, message, config):
    with pytest.raises(ConfigError, match=message):
        make_layer(backend, SINK, config, block_size)

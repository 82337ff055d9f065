"""Attention under a `SparsePattern`, full attention beside it, and decoding; one dispatcher for each."""

from longgen.attention.call import PackedDocuments
from longgen.attention.decode import decode_attention
from longgen.attention.dispatch import BACKENDS, sparse_attention
from longgen.attention.full import FULL_KERNELS, full_attention

__all__ = ["BACKENDS", "FULL_KERNELS", "PackedDocuments", "decode_attention", "full_attention", "sparse_attention"]

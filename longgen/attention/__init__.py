"""Attention under a `SparsePattern`: a dense reference, a blocked path for any device, and the dispatcher."""

from longgen.attention.dispatch import BACKENDS, sparse_attention
from longgen.attention.full import full_attention, scaled_dot_product

__all__ = ["BACKENDS", "full_attention", "scaled_dot_product", "sparse_attention"]

"""The Triton kernels; `longgen.attention.triton_attention` and `triton_decode` launch them."""

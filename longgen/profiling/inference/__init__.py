"""Prefill and decoding at a model's true shapes: whole where it fits on the GPU, else composed of slices."""

"""Evaluation: benchmarks and how they are asked, perplexity by position, and KV reductions to compare with."""

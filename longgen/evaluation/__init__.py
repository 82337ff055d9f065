"""Evaluation of fine-tuned variants: retrieval (needle, multi-key, variable tracking) and perplexity by position."""

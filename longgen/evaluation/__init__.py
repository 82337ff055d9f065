"""Evaluation of fine-tuned variants: retrieval (needles, variables, common words) and perplexity by position."""

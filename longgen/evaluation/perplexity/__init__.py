"""Perplexity by position in the context: of documents as long as it, or of held-out text."""

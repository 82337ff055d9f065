"""Perplexity by position on documents as long as the context: PG-19, local text, or a stand-in."""

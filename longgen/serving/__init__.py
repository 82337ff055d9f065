"""Hybrids in serving engines: what an engine's KV cache keeps of a sparse layer, and plugins for engines."""

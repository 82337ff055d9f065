"""A benchmark run: prompts are prepared once, answered in shards by each model, and scored."""

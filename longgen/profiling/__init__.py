"""Speed and memory of the variants, measured side by side in one process."""

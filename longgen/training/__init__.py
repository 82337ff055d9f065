"""Training: one plain loop for base pretraining and long-context extension, with exact resume."""

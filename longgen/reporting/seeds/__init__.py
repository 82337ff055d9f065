"""Several runs that differ in name and seed alone: pooled values, figures, and the evidence."""

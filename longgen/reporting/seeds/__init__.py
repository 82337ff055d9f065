"""Several runs that differ in name and seed alone: pooled values, two figures, and the evidence."""

"""What it costs to make layers, or heads, of a checkpoint sparse, without training: `longgen probe`."""

"""Training steps of slices of a model: a few layers of their true shapes, and what they say about the whole model."""

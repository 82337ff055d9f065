"""What a record of kind ``training-speed`` is about. Importable without torch, as reporting needs it."""

# The time of a slice is measured; the others follow from slices, and are called composed.
SLICE, COMPOSED_REST, COMPOSED_LAYER, COMPOSED_MODEL = "slice", "composed rest", "composed layer", "composed model"

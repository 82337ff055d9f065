"""What a record of kind ``training-speed`` is about. Importable without torch, as reporting needs it."""

# The time of a slice is measured, or those of parts of layers; the others follow from these, and are called composed.
SLICE, COMPOSED_REST, COMPOSED_LAYER, COMPOSED_MODEL = "slice", "composed rest", "composed layer", "composed model"
# Parts: the attention of a layer in a share of its heads, a tile of tokens through what else it does, another through
# embeddings and LM head, and the update of one weight.
PART_ATTENTION, PART_LAYER, PART_HEAD, PART_UPDATE = (
    *("attention of a share of heads", "a tile through a layer without attention"),
    *("a tile through embeddings and LM head", "update of a weight"),
)
PARTS = (PART_ATTENTION, PART_LAYER, PART_HEAD, PART_UPDATE)

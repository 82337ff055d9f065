"""What a record of kind ``inference-speed`` is about. Importable without torch, as reporting needs it."""

SLICE_PREFILL, SLICE_DECODE = "slice-prefill", "slice-decode"
# Of a whole model; whether it ran as such or is composed of slices, the column ``composed`` says.
MODEL_PREFILL, MODEL_DECODE = "model-prefill", "model-decode"
LONGEST = "longest-context"
KV_CACHE = "kv-cache"  # bytes alone, of a whole model's cache at a length

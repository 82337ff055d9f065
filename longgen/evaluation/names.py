"""Names for those who must not import torch: the command line's help, and the configuration."""

# Of the KV reductions in `longgen.evaluation.baselines.METHODS`, the one that needs gates, learned on the model.
DUO_ATTENTION = "duo-attention"
# All of them; a test compares.
KV_REDUCTIONS = ("sink-window", "lm-infinite", "streaming-llm", "snapkv", "pyramidkv", "tova", "h2o", DUO_ATTENTION)
NONE = "none"  # where no method reduces the KV cache, and to no other model's budget

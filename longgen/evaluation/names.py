"""Names for those who must not import torch: the command line's help, and the configuration."""

# The KV reductions of `longgen.evaluation.baselines.METHODS` that need nothing but the model; a test compares them.
KV_REDUCTIONS = ("sink-window", "lm-infinite", "streaming-llm", "snapkv", "pyramidkv", "tova", "h2o")

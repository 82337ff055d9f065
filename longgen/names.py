"""What several parts must call, or count, alike: everything may import it, and it imports nothing."""

# KV reductions at inference, in the order of tables (`longgen.evaluation.baselines.METHODS`).
SINK_WINDOW, LM_INFINITE, STREAMING_LLM, SNAPKV = "sink-window", "lm-infinite", "streaming-llm", "snapkv"
PYRAMIDKV, TOVA, H2O = "pyramidkv", "tova", "h2o"
DUO_ATTENTION = "duo-attention"  # the one that needs gates, learned on the model
KV_REDUCTIONS = (SINK_WINDOW, LM_INFINITE, STREAMING_LLM, SNAPKV, PYRAMIDKV, TOVA, H2O, DUO_ATTENTION)
NONE = "none"  # where no method reduces the KV cache, and to no other model's budget

# Where needles stand unless told otherwise: 0 is the beginning of a prompt, 1 its end.
NEEDLE_DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
# The text, of the run's own corpus, whose perplexity is measured: what a results file calls it.
HELDOUT = "held-out text"
# What `longgen short-context` asks unless told otherwise: the tasks of Hugging Face's Open LLM Leaderboard, version 1.
SHORT_CONTEXT_TASKS = ("arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc2", "winogrande", "gsm8k")

# What `python -m longgen.profiling.gpu` measures of a GPU, and the planner reads.
COPY, PRODUCT = "copy bandwidth", "matrix product"

# Tokens whose logits are there at a time: at 128K tokens and a vocabulary of 32,000 all of them would take 16 GB in
# float32. Our choice.
CHUNK_TOKENS = 4096
# Bytes of float32 logits that the softmax works on at a time on a GPU, which wants few launches. Our choice.
LOGITS_BLOCK = 2**28
# Of a file of exported weights, of which the first process holds one in main memory. Our choice; as Hugging Face's.
FILE_BYTES = 5 * 10**9

# What answers the prompts of benchmarks.
TRANSFORMERS, VLLM = ENGINES = ("transformers", "vllm")

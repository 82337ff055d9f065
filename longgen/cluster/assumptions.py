"""What requests assume of a cluster. Every number is our choice, none was measured on one.

What a job is predicted to take is multiplied by a margin, and by the number of the attempt: a retry mends what was
assumed too well.
"""

from longgen.gpus import GIB

# ---------------------------------------------------------------- requests
TIME_MARGIN = 1.5
MEMORY_MARGIN = 1.25
SHORTEST_SECONDS = 20 * 60  # that any job requests: file systems and imports can be slow
# Training is told to stop so long before its time is up, at least and at most; in between, what a step and a checkpoint
# are predicted to take, times the margin.
SHORTEST_NOTICE = 120
LONGEST_NOTICE_SHARE = 1 / 3  # of its time

# ---------------------------------------------------------------- processes
START_SECONDS = 60  # of a process, to import what it needs from a shared file system
PROCESS_BYTES = 3 * GIB  # of main memory: libraries, and buffers of files
GPU_PROCESS_BYTES = 8 * GIB  # with CUDA's context, its libraries and pinned buffers
CPUS = 2  # of a job that computes without a GPU
PACK_CPUS = 16  # of `longgen pack`, a process each

# ---------------------------------------------------------------- rates per second
FILE_RATE = 500e6  # bytes that a node reads or writes on the shared file system
TOKENIZER_RATE = 2e5  # tokens that a process makes of text
PROMPT_RATE = 5e4  # tokens of prompts, which are tokenised several times until they have their length
RECALL_RATE = 5e6  # tokens of recall's prompts, which are cut out of bytes

# ---------------------------------------------------------------- generation
LAYER_SECONDS = 1e-3  # to start a layer's kernels from Python, in every forward pass
ANSWER_TOKENS = 128  # of an answer; benchmarks allow 20 to 512
RECALLED_TOKENS = 24  # of recall's longest answer, bytes that they are: four values
# The slowest reductions of the KV cache take longer than the quickest, by a factor that no results file holds.
REDUCTION_FACTOR = 3
# Samples of a benchmark's own data, on average of its tasks. LongBench has 8,418 in 34 sets.
NATURAL_SAMPLES = {"longbench": 250}
# Questions of a task of lm-eval, answers that are compared in each, and tokens of question and answer.
SHORT_CONTEXT_SAMPLES, SHORT_CONTEXT_CHOICES, SHORT_CONTEXT_TOKENS = 5000, 4, 1024

# ---------------------------------------------------------------- storage
TEXT_BYTES = 4  # of a token as text
GENERATED_TOKEN_BYTES = 4  # of a generated row: token and weight

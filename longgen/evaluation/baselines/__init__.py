"""KV reductions at inference, for a full-attention model: what LongGen is compared with at the same KV budget."""

from longgen.evaluation.baselines.budget import METHODS, BudgetedMethod, method_for_budget
from longgen.evaluation.baselines.gates import optimise_gates, passkey_row
from longgen.evaluation.baselines.gates_file import Gates, read_gates, save_gates
from longgen.evaluation.baselines.generation import Generation, generate, kept_bytes
from longgen.evaluation.baselines.method import Method

__all__ = [
    "METHODS",
    "BudgetedMethod",
    "Gates",
    "Generation",
    "Method",
    "generate",
    "kept_bytes",
    "method_for_budget",
    "optimise_gates",
    "passkey_row",
    "read_gates",
    "save_gates",
]

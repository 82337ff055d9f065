"""How our KV cache lays out full heads in memory: what the cache and the planner must agree on. All our choice."""

# Tokens by which buffers grow: concatenating at every decoded token would copy all of them every time.
GROWTH_TOKENS = 256

# Tokens that share the scale and zero point of a channel of quantised keys (KIVI, Liu et al. 2024, arXiv 2402.02750).
QUANTIZATION_GROUP = 64

QUANTIZATION_BITS = (8, 4)


def chunked(tokens: int, chunk: int = GROWTH_TOKENS) -> int:
    """``tokens`` rounded up to whole chunks."""
    return -(-tokens // chunk) * chunk


def quantized_bytes(length: int, head_dim: int, bits: int, bytes_per_value: int) -> int:
    """Bytes of keys and values of one KV head once ``length`` tokens went through it, quantised to ``bits``.

    Whole groups of tokens are codes with a scale and a zero point per channel (keys) or per token (values); the rest
    waits in full precision.
    """
    grouped = length - length % QUANTIZATION_GROUP
    capacity = chunked(grouped)
    codes = 2 * capacity * head_dim * bits // 8
    parameters = 2 * (capacity // QUANTIZATION_GROUP * head_dim + capacity) * bytes_per_value
    return codes + parameters + 2 * (length - grouped) * head_dim * bytes_per_value

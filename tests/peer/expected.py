"""Tests of transformers that a hybrid fails, and why it must. Whatever fails otherwise is unexplained."""

from __future__ import annotations

import re
from typing import NamedTuple


class ExpectedFailure(NamedTuple):
    """One reason.

    Attributes:
        tests: regular expression of whole test names.
        error: regular expression that is found in each of their errors; or in the reason, where they skip themselves.
        reason: why it is right that they fail.
        cases: regular expression of whole case names, such as ``llama-sink``.
    """

    tests: str
    error: str
    reason: str
    cases: str = r".*-(?!base).*"

    def is_about(self, case: str, test: str) -> bool:
        """Whether it says that ``test`` fails in ``case``."""
        return bool(re.fullmatch(self.cases, case) and re.fullmatch(self.tests, test))


NO_OTHER_ATTENTION = r"attn_implementation is '(eager|sdpa)': allowed are longgen"
EXPECTED = (
    ExpectedFailure(
        "test_can_set_attention_dynamically|test_config_attn_implementation_setter",
        NO_OTHER_ATTENTION,
        "transformers' own attention would be full in every layer of a hybrid: asked for, it is refused",
    ),
    ExpectedFailure(
        "test_sdpa_can_dispatch_non_composite_models",
        "does not support SDPA",
        "as above; the classes say so by `_supports_sdpa`, and the test skips itself",
    ),
    ExpectedFailure(
        "test_attention_outputs",
        NO_OTHER_ATTENTION,
        "attention weights are not computed: a matrix of tokens by tokens is what sparse attention avoids",
    ),
    ExpectedFailure(
        "test_retain_grad_hidden_states_attentions|test_model_outputs_equivalence|"
        "test_eager_matches_sdpa_inference_24_fp32_pad_left_output_attentions",
        "output_attentions",
        "as above",
    ),
    ExpectedFailure(
        "test_model_rope_scaling_from_config_1_dynamic",
        "rope_type is 'dynamic'",
        "its frequencies depend on the length of a call: what a KV cache holds would be turned otherwise",
    ),
    ExpectedFailure(
        "test_sliding_window_mask",
        NO_OTHER_ATTENTION,
        "as above; the test looks for the window in attention weights",
        cases="qwen[23]-(?!base).*",
    ),
    ExpectedFailure(
        r"test_eager_matches_sdpa_inference_(?!24)\w+",
        "sliding_window is 2: longgen attention supports None only",
        "the test gives the config a sliding window, beside the windows of the pattern: refused",
        cases="mistral-(?!base).*",
    ),
)


def expected_failure(case: str, test: str) -> ExpectedFailure | None:
    """The reason for which ``test`` must fail in ``case``, if there is one."""
    return next((failure for failure in EXPECTED if failure.is_about(case, test)), None)

"""Our models in lm-eval: its Hugging Face model, without the logits of whole prompts in memory."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from typing import Any

import torch
import torch.nn.functional as F
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from longgen.data.tokenization import encode_prompt, encode_text
from longgen.evaluation.finite import no_number
from longgen.evaluation.greedy import greedy_decoding
from longgen.modeling import BASE_FAMILIES
from longgen.modeling.head import head_input
from longgen.modeling.loading import load_complete
from longgen.names import CHUNK_TOKENS
from longgen.progress import progress_bar
from longgen.strict import require

logger = logging.getLogger(__name__)


class _Complete:
    """What `HFLM` loads models by, in the place of an Auto class of transformers."""

    @staticmethod
    def from_pretrained(pretrained: str, **options: Any) -> Any:
        return load_complete(pretrained, "get the checkpoint anew", **options)


@register_model("longgen")
class LongGenLM(HFLM):
    """lm-eval's ``hf`` for hybrids and their base families: the same numbers, less memory.

    Rolling windows and generation are `HFLM`'s. It computes the logits of every token of a batch, 4 GB in float32 for
    one prompt of 32K tokens and a vocabulary of 32,000, and uses those of the continuations; here hidden states of
    continuations alone go through the language-model head, `CHUNK_TOKENS` at a time.

    Other than there, text is tokenised as everywhere here (`longgen.data.tokenization`): nothing follows a context,
    and text that spells a special token stays text, unless a chat template wrote it. A checkpoint's generation defaults
    do not count (`longgen.evaluation.greedy`); what a task asks for does.
    """

    AUTO_MODEL_CLASS: Any = None

    def __init__(self, pretrained: Any, batch_size: int | str = 1, **options: Any) -> None:
        """See `HFLM`.

        Args:
            pretrained: folder, hub id, or a loaded model.
            batch_size: rows computed together; ``auto`` is not supported.
            **options: as of `HFLM`.

        Raises:
            ConfigError: another batch size, mixed precision, or a model of another family.
            ArtifactError: a folder or repository that lacks tensors of the model, or has others.
        """
        precision = options.get("mixed_precision_dtype")
        require(precision is None, "mixed_precision_dtype", precision, "none: dtype is that of weights and activations")
        require(str(batch_size).isdigit() and int(batch_size) > 0, "batch_size", batch_size, "a number from 1 up")
        truncation = options.get("truncation", False)
        require(not truncation, "truncation", truncation, "false: prompts that are too long lose their start")
        super().__init__(pretrained, batch_size=batch_size, **options)
        self._spells_special_tokens = False
        # others may do more to hidden states than their head does, such as scaling
        family = self.config.model_type.removeprefix("longgen_")
        require(family in BASE_FAMILIES, "model_type", self.config.model_type, f"a hybrid, {', '.join(BASE_FAMILIES)}")

    def apply_chat_template(self, *arguments: Any, **options: Any) -> str:
        """As `HFLM`'s: a prompt in which special tokens are spelled out, and are meant as such from then on."""
        self._spells_special_tokens = True
        return super().apply_chat_template(*arguments, **options)

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **options: Any,
    ) -> list[int]:
        """Tokens of a text, with what the tokenizer puts before it unless ``add_special_tokens`` is False."""
        if self._spells_special_tokens:
            return super().tok_encode(string, add_special_tokens, left_truncate_len, **options)
        with_special = self.add_bos_token if add_special_tokens is None else add_special_tokens
        tokens = (encode_text if with_special is False else encode_prompt)(self.tokenizer, string)
        return tokens[-left_truncate_len:] if left_truncate_len else tokens

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompts of one batch, padded: token ids and mask, [rows, tokens] int64 each."""
        if self._spells_special_tokens:
            return super().tok_batch_encode(strings, padding_side, left_truncate_len, truncation)
        rows = [self.tok_encode(string, left_truncate_len=left_truncate_len) for string in strings]
        batch = self.tokenizer.pad({"input_ids": rows}, padding_side=padding_side, return_tensors="pt")
        return batch["input_ids"], batch["attention_mask"]

    def _create_model(self, pretrained: str, **options: Any) -> None:
        own, self.AUTO_MODEL_CLASS = self.AUTO_MODEL_CLASS, _Complete
        try:
            super()._create_model(pretrained, **options)
        finally:
            self.AUTO_MODEL_CLASS = own

    def _model_generate(self, *arguments: Any, **options: Any) -> torch.Tensor:
        with greedy_decoding(self.model) as checks:
            return super()._model_generate(*arguments, logits_processor=checks, **options)

    @torch.no_grad()
    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Log-probability of every continuation in nats, and whether it is the greedy one.

        Args:
            requests: (text to cache the answer by, tokens of the context, tokens of the continuation); too long ones
                lose tokens on the left, as with `HFLM`.
            disable_tqdm: no progress bar.
            override_bs: rows computed together; None for the model's batch size.

        Raises:
            ConfigError: a continuation that is longer than the model's maximum.
            ArtifactError: a log-probability is not a number.
        """
        by_input: dict[tuple[int, ...], list[int]] = defaultdict(list)  # choices of one token share their input
        for index, (_, context, continuation) in enumerate(requests):
            require(
                len(continuation) <= self.max_length, "continuation", len(continuation), f"{self.max_length} tokens"
            )
            by_input[tuple((context + continuation)[-(self.max_length + 1) : -1])].append(index)
        num_truncated = sum(
            len(context) + len(continuation) > self.max_length + 1 for _, context, continuation in requests
        )
        if num_truncated:
            logger.warning(
                "%d of %d prompts lose their start: %d tokens are allowed",
                num_truncated,
                len(requests),
                self.max_length,
            )
        inputs = sorted(by_input, key=lambda tokens: (-len(tokens), tokens))  # what does not fit fails at once
        answers: dict[int, tuple[float, bool]] = {}
        size = override_bs or self.batch_size
        quiet = disable_tqdm or override_bs is not None or self.rank != 0
        with progress_bar(len(requests), "likelihoods", "request", quiet=quiet) as bar:
            for start in range(0, len(inputs), size):
                batch = inputs[start : start + size]
                for tokens, hidden in zip(batch, self._hidden_states(batch), strict=True):
                    for index in by_input[tokens]:
                        text, _, continuation = requests[index]
                        answers[index] = self._score(
                            hidden[len(tokens) - len(continuation) : len(tokens)], continuation
                        )
                        if text is not None:  # windows of a rolling likelihood are parts of an answer
                            self.cache_hook.add_partial("loglikelihood", text, answers[index])
                        bar.update()
        return [answers[index] for index in range(len(requests))]

    def _hidden_states(self, batch: list[tuple[int, ...]]) -> torch.Tensor:
        """What the LM head gets [rows, tokens, hidden size]. Padding stands right: nobody looks there."""
        rows = [torch.tensor(tokens, device=self.device) for tokens in batch]
        input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        hidden = self.model.model(input_ids=input_ids, use_cache=False).last_hidden_state
        return head_input(self.model, hidden)

    def _score(self, hidden: torch.Tensor, continuation: list[int]) -> tuple[float, bool]:
        """From hidden states [tokens of the continuation, hidden size], each of the token before."""
        targets = torch.tensor(continuation, device=hidden.device)
        log_probabilities, matches = [], []
        for states, chunk_targets in zip(hidden.split(CHUNK_TOKENS), targets.split(CHUNK_TOKENS), strict=True):
            scores = F.log_softmax(self.model.lm_head(states), dim=-1, dtype=self.softmax_dtype)
            log_probabilities.append(scores.gather(1, chunk_targets[:, None]))
            matches.append(scores.argmax(-1) == chunk_targets)
        likelihood = float(torch.cat(log_probabilities).sum())
        if not math.isfinite(likelihood):
            raise no_number(self.model, "the log-likelihood of a continuation is not a number")
        return likelihood, bool(torch.cat(matches).all())

"""Text to token ids: the one way to tokenise that data, benchmarks, perplexity and gates share.

Text is only ever text. What spells a special token in it, such as ``</s>`` in a web page, becomes tokens of its
characters and never the special token, but where a published protocol means it; and nothing is put after a text, since
a model that reads an end-of-text token at the end of a prompt has nothing to go on with. What a tokenizer puts before a
text, BOS mostly, only `encode_prompt` puts there.
"""

from __future__ import annotations

import itertools
from typing import Any

from longgen.errors import ConfigError


class TextEncoder:
    """Token ids of texts, without any special token.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``, or a fast Hugging Face tokenizer, whose own it is.

    Raises:
        ConfigError: the tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._backend = _backend(tokenizer)
        added_tokens = self._backend.get_added_tokens_decoder()
        self._special = {index: token.content for index, token in added_tokens.items() if token.special}

    def __call__(self, text: str) -> list[int]:
        """Tokens of ``text``, all of them: nothing is truncated or padded."""
        backend = _without_options(self._backend)
        # a batch of one: with several, the library starts threads of its own
        ids = backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids if self._special.keys().isdisjoint(ids) else self._encode_characters(text)

    def _encode_characters(self, text: str) -> list[int]:
        """Where the model itself knows special tokens as words, as Unigram does: their characters' tokens instead."""
        backend, ids = self._backend, []
        encoding = backend.encode_batch([text], add_special_tokens=False)[0]
        for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            span = text[start:end] if backend.normalizer is None else backend.normalizer.normalize_str(text[start:end])
            if index in self._special and self._special[index] in span:
                ids += [token.id for character in span for token in backend.model.tokenize(character)]
            else:  # an ordinary token, or what stands for unknown characters
                ids.append(index)
        return ids


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Tokens of ``text`` alone, as a part of a longer one.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        text: of any length; it is not truncated.

    Raises:
        ConfigError: the tokenizer is not a fast one.
    """
    return TextEncoder(tokenizer)(text)


def encode_prompt(tokenizer: Any, text: str, special_tokens: bool = False) -> list[int]:
    """Tokens of ``text`` as a model continues it: what the tokenizer puts before texts, then those of the text.

    With an ordinary tokenizer and text these are ``tokenizer(text).input_ids``; one that appends an end-of-text token
    does not do so here.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        text: of any length; it is not truncated.
        special_tokens: what spells special tokens means them. Only where a published protocol writes them into its
            prompts.

    Raises:
        ConfigError: the tokenizer is not a fast one.
    """
    start = prompt_start(tokenizer)
    if not special_tokens:
        return [*start, *encode_text(tokenizer, text)]
    backend = _without_options(_backend(tokenizer))
    backend.encode_special_tokens = False
    return [*start, *backend.encode_batch_fast([text], add_special_tokens=False)[0].ids]


def prompt_start(tokenizer: Any) -> list[int]:
    """The special tokens that a fast Hugging Face tokenizer puts before a text: BOS, others, or none."""
    encoding = _without_options(_backend(tokenizer)).encode("a", add_special_tokens=True)
    pairs = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
    return [index for index, _ in itertools.takewhile(lambda pair: pair[1], pairs)]


def _backend(tokenizer: Any) -> Any:
    from tokenizers import Tokenizer

    backend = tokenizer if isinstance(tokenizer, Tokenizer) else getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        name = type(tokenizer).__name__
        raise ConfigError(f"tokenizer is a {name}: allowed is a fast one, which has a tokenizer.json")
    return backend


def _without_options(backend: Any) -> Any:
    """The tokenizer without what others who use it may have left on."""
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend

"""Chinese words, as jieba finds them."""

from __future__ import annotations

import functools
import logging
import tempfile
from typing import Any

from longgen.errors import ConfigError


def segment(text: str) -> list[str]:
    """The words of ``text``, with all that stands between them, in jieba's accurate mode.

    Raises:
        ConfigError: jieba is not installed.
    """
    return list(_tokenizer().cut(text, cut_all=False))


@functools.cache
def _tokenizer() -> Any:
    try:
        import jieba
    except ImportError:
        raise ConfigError(
            "LongBench's Chinese sets are scored with jieba, which is not installed: pip install 'longgen[eval]'"
        ) from None
    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()
    # a folder of its own: jieba would believe any cache that lies in the temporary folder of all users
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.tmp_dir = folder
        tokenizer.initialize()
    return tokenizer

"""Tokenising blocks of documents in processes, in order."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import numpy as np

from longgen.data.packing.readers import Block
from longgen.data.packing.tokenizers import TokenizerFacts
from longgen.data.synthetic.tokenizer import encode_bytes
from longgen.data.tokenization import TextEncoder
from longgen.errors import ArtifactError
from longgen.orphans import end_with_parent


@dataclass(frozen=True)
class TokenizedDocuments:
    """The tokens of several documents.

    Attributes:
        tokens: all documents one after another, in the facts' dtype.
        lengths: [documents] int64, tokens of each.
        hashes: [documents, 2] uint64, 128 bits of BLAKE2b of each text.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    hashes: np.ndarray


class Encoder:
    """Texts to token ids. Text that spells a special token stays text: only we begin and end documents."""

    def __init__(self, facts: TokenizerFacts) -> None:
        self._facts = facts
        self._encode: Callable[[list[str]], list[Any]] = self._bytes if facts.is_bytes else self._fast(facts)

    @staticmethod
    def _bytes(texts: list[str]) -> list[Any]:
        return [encode_bytes(text) for text in texts]

    @staticmethod
    def _fast(facts: TokenizerFacts) -> Callable[[list[str]], list[Any]]:
        from tokenizers import Tokenizer

        encoder = TextEncoder(Tokenizer.from_file(facts.file))
        # one text at a time: the processes are the parallelism
        return lambda texts: [encoder(text) for text in texts]

    def __call__(self, texts: list[str]) -> TokenizedDocuments:
        """Tokenise and hash."""
        facts = self._facts
        dtype = np.dtype(facts.dtype)
        first = np.array([] if facts.bos_id is None else [facts.bos_id], dtype)
        last = np.array([] if facts.eos_id is None else [facts.eos_id], dtype)
        parts = [np.concatenate([first, np.asarray(ids, dtype), last]) for ids in self._encode(texts)]
        digests = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
        return TokenizedDocuments(
            np.concatenate([*parts, np.empty(0, dtype)]),
            np.array([len(part) for part in parts], np.int64),
            np.frombuffer(digests, "<u8").reshape(len(texts), 2),
        )


_encoder: Encoder  # of a worker process


def _start_worker(facts: TokenizerFacts) -> None:
    global _encoder
    _encoder = Encoder(facts)
    end_with_parent()


def _encode_in_worker(texts: list[str]) -> TokenizedDocuments:
    return _encoder(texts)


EncodeBlocks = Callable[[Iterable[Block]], Iterator[tuple[Block, TokenizedDocuments]]]


@contextlib.contextmanager
def block_encoder(facts: TokenizerFacts, workers: int) -> Iterator[EncodeBlocks]:
    """Yield a function that tokenises blocks, in the order in which they come, in ``workers`` processes.

    It reads at most two blocks per process ahead, so that memory does not grow with the corpus.

    Raises:
        ArtifactError: a process died.
    """
    if workers == 1:
        encoder = Encoder(facts)
        yield lambda blocks: ((block, encoder([each.text for each in block.documents])) for block in blocks)
        return
    # not fork: the parent may have threads
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (facts,))

    def encode(blocks: Iterable[Block]) -> Iterator[tuple[Block, TokenizedDocuments]]:
        pending: deque[tuple[Block, Future[TokenizedDocuments]]] = deque()
        for block in blocks:
            pending.append((block, pool.submit(_encode_in_worker, [each.text for each in block.documents])))
            if len(pending) >= 2 * workers:
                first, future = pending.popleft()
                yield first, future.result()
        for first, future in pending:
            yield first, future.result()

    try:
        yield encode
    except BrokenProcessPool:
        raise ArtifactError(
            "a process that tokenises died, perhaps for want of memory: "
            "give fewer --workers; the same command goes on from the last shard"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)

"""The byte tokenizer: 256 bytes and three special tokens, saved as a Hugging Face tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from longgen.data.synthetic.vocabulary import BOS_ID, EOS_ID, PAD_ID


def encode_bytes(text: str) -> np.ndarray:
    """Token ids (uint16) of ``text``: its UTF-8 bytes. The same ids as the saved tokenizer gives."""
    return np.frombuffer(text.encode("utf-8", errors="replace"), dtype=np.uint8).astype(np.uint16)


def decode_bytes(tokens: np.ndarray) -> str:
    """The text of token ids; special tokens are dropped, broken UTF-8 becomes U+FFFD."""
    tokens = np.asarray(tokens)
    return tokens[tokens < 256].astype(np.uint8).tobytes().decode("utf-8", errors="replace")


def save_byte_tokenizer(folder: Path) -> None:
    """Write the tokenizer to ``folder``, loadable by ``AutoTokenizer.from_pretrained``."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # ByteLevel writes every byte as one printable character; a BPE without merges keeps them single.
    vocabulary = {character: byte for byte, character in _byte_characters().items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = {PAD_ID: "<pad>", BOS_ID: "<s>", EOS_ID: "</s>"}
    tokenizer.add_special_tokens([AddedToken(names[index], special=True) for index in sorted(names)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=names[PAD_ID],
        bos_token=names[BOS_ID],
        eos_token=names[EOS_ID],
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def _byte_characters() -> dict[int, str]:
    """GPT-2's table of printable stand-ins for bytes, which ByteLevel uses: printable ones stay, others follow 255."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}

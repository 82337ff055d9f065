"""The tokenizer of a packing: saved beside the rows, so that whoever trains on them has the same one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longgen.data.packing.settings import PackSettings
from longgen.data.synthetic.tokenizer import save_byte_tokenizer
from longgen.errors import ConfigError
from longgen.files import atomic_directory
from longgen.foreign import first_line, reading

BYTES = "bytes"


@dataclass(frozen=True)
class TokenizerFacts:
    """What processes that tokenise need.

    Attributes:
        file: the saved ``tokenizer.json``.
        is_bytes: the project's byte tokenizer, which needs no library.
        bos_id, eos_id: put before and after each document, unless None.
        vocabulary_size: largest id + 1.
    """

    file: str
    is_bytes: bool
    bos_id: int | None
    eos_id: int | None
    vocabulary_size: int

    @property
    def dtype(self) -> str:
        """Type of stored ids: uint16 where the vocabulary fits, else uint32."""
        return "uint16" if self.vocabulary_size <= 1 << 16 else "uint32"


def save_tokenizer(settings: PackSettings, folder: Path) -> None:
    """Save the tokenizer that ``settings`` name to ``folder``.

    Raises:
        ConfigError: there is no such tokenizer, it is not a fast one, or `read_tokenizer` refuses it.
    """
    name = settings.tokenizer
    with atomic_directory(folder) as temporary:
        if name == BYTES:
            save_byte_tokenizer(temporary)
        else:
            try:
                tokenizer = _load(name)
            except Exception as error:  # transformers stumbles anywhere over what is no tokenizer
                allowed = f"{BYTES}, a folder, a .gguf file, or an id of the hub that can be reached"
                raise ConfigError(f"tokenizer is {name!r}: allowed is {allowed} ({first_line(error)})") from error
            if not tokenizer.is_fast:
                raise ConfigError(f"tokenizer is {name!r}: allowed is one with a tokenizer.json (a fast one)")
            tokenizer.save_pretrained(temporary)
        read_tokenizer(settings, temporary)


def _load(name: str) -> Any:
    from transformers import AutoTokenizer

    if Path(name).suffix != ".gguf":
        return AutoTokenizer.from_pretrained(name)
    from longgen.modeling.conversion.gguf_file import GgufSource

    source = GgufSource(Path(name))
    return AutoTokenizer.from_pretrained(source.file("tokenizer.json", Path()).parent)


def read_tokenizer(settings: PackSettings, folder: Path) -> TokenizerFacts:
    """The facts of a saved tokenizer.

    Raises:
        ConfigError: it lacks a token that documents are to begin or end with.
        ArtifactError: it is damaged.
    """
    from transformers import AutoTokenizer

    with reading(folder, "delete it, and the same command makes it anew"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
    ids: dict[str, int | None] = {"begin_with_bos": tokenizer.bos_token_id, "end_with_eos": tokenizer.eos_token_id}
    for key, token in ids.items():
        if not getattr(settings, key):
            ids[key] = None
        elif token is None:
            raise ConfigError(f"{key} is True: allowed is false with tokenizer {settings.tokenizer!r}, which has none")
    size = max(tokenizer.get_vocab().values()) + 1
    is_bytes = settings.tokenizer == BYTES
    return TokenizerFacts(str(folder / "tokenizer.json"), is_bytes, ids["begin_with_bos"], ids["end_with_eos"], size)

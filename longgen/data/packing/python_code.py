"""Stand-in data for `longgen pack`, without a network: the Python code of this machine, and a tokenizer trained on it.

    python -m longgen.data.packing.python_code artifacts/python-code

writes ``documents.jsonl``, a record per Python file of the standard library and of the installed packages, with its
domain in ``meta.source``; and ``tokenizer/``, a byte-level BPE (config/data/python-code-32k.yaml).
"""

from __future__ import annotations

import argparse
import json
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from longgen.data.packing.records import Document
from longgen.errors import ArtifactError
from longgen.files import atomic_directory
from longgen.program import run_program

# Large packages, which LongGen needs and which therefore are here, have a domain of their own.
PACKAGES = ("matplotlib", "numpy", "pandas", "sympy", "torch", "transformers")
BEGIN, END = "<s>", "</s>"
VOCABULARY_SIZE = 32_000  # that of Llama-2
SAMPLE_EVERY = 15  # the tokenizer is trained on one document in so many: enough for its vocabulary, in seconds


def python_documents(library: Path, packages: Path) -> Iterator[Document]:
    """Every ``*.py`` that is not blank below ``library``, the standard library, and ``packages``, in a fixed order."""
    for root in (library, packages):
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).parts
            text = path.read_text(encoding="utf-8", errors="replace")
            if "site-packages" in parts or "dist-packages" in parts or not text or text.isspace():
                continue
            if root == packages:
                yield Document(parts[0] if parts[0] in PACKAGES else "other packages", text)
            else:
                yield Document("library tests" if {"test", "tests"} & set(parts) else "standard library", text)


def write_python_code(library: Path, packages: Path, folder: Path, vocabulary_size: int = VOCABULARY_SIZE) -> None:
    """Write ``documents.jsonl`` and ``tokenizer/`` into a new ``folder``, in one step.

    Raises:
        ArtifactError: there is no Python file.
    """
    with atomic_directory(folder) as temporary:
        sample = []
        with (temporary / "documents.jsonl").open("w", encoding="utf-8") as file:
            for number, document in enumerate(python_documents(library, packages)):
                file.write(json.dumps({"text": document.text, "meta": {"source": document.domain}}) + "\n")
                if number % SAMPLE_EVERY == 0:
                    sample.append(document.text)
        if not sample:
            raise ArtifactError(f"{library} and {packages} hold no *.py with text: allowed is at least one")
        _train_tokenizer(sample, vocabulary_size, temporary / "tokenizer")


def _train_tokenizer(texts: list[str], vocabulary_size: int, folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, special_tokens=[BEGIN, END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END).save_pretrained(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; ``arguments`` instead of the process's own."""
    parser = argparse.ArgumentParser(
        prog="python -m longgen.data.packing.python_code",
        description="Write the Python code of this machine as JSON lines, and a tokenizer trained on it: "
        "stand-in data for longgen pack.",
    )
    parser.add_argument("folder", type=Path, help="folder to make")
    folder = parser.parse_args(arguments).folder
    if folder.exists():
        parser.error(f"{folder} exists: delete it, or give another folder")
    paths = sysconfig.get_paths()
    write_python_code(Path(paths["stdlib"]), Path(paths["purelib"]), folder)
    print(f"{folder}: documents.jsonl and tokenizer")


if __name__ == "__main__":
    run_program(main)

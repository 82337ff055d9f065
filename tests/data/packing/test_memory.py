"""Memory does not grow with the corpus: peak resident memory of a process, against a corpus several times as large."""

import subprocess
import sys
from pathlib import Path

import pytest

from longgen.data.packing.packed import PackedRows

MIB = 1 << 20

SCRIPT = """
import re, sys
from pathlib import Path
from transformers import AutoTokenizer  # what is imported does not count
from longgen.data.packing.pack import pack
from longgen.data.packing.configuration import load_pack_settings

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))

settings, before = load_pack_settings(sys.argv[1]), peak()
pack(settings, Path(sys.argv[2]))
print(peak() - before)
"""


@pytest.mark.slow
def test_peak_memory_is_a_fraction_of_the_corpus(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    words = "all work and no play makes a dull corpus " * 250
    with corpus.open("w") as file:
        for number in range(20_000):
            file.write(f'{{"text": "{number} {words}", "meta": {{"source": "d{number % 3}"}}}}\n')
    assert corpus.stat().st_size > 190 * MIB
    config = tmp_path / "config.yaml"
    config.write_text(
        f"name: test\nsources: [{{name: corpus, kind: jsonl, path: {corpus}}}]\ntokenizer: bytes\n"
        "method: per-source\nupsampling: {factor: 2}\nlengths: [131072]\ntoken_budget: 100_000_000\n"
        "shard_tokens: 1_000_000\nworkers: 2\n"
    )
    command = [sys.executable, "-c", SCRIPT, str(config), str(tmp_path / "out")]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True)
    # measured: 27 MiB; 600 MiB where nothing bounds how far ahead is read
    assert int(outcome.stdout) * 1024 < 60 * MIB, "a third of the text, a sixth of its tokens on disk"
    assert len(PackedRows.open(Path(tmp_path / "out"))) == 762

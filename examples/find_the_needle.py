"""A key hidden in a long text, asked of three trained models: full attention, LongGen, and sparse layers alone.

    python examples/find_the_needle.py               # models of half a million parameters that ship with the project
    python examples/find_the_needle.py --seed 3      # other parts of the text and other keys

Each reads bytes and was extended from 256 to 2,048 tokens in a few minutes by `make run` (examples/models/README.md).
The text is haystack.txt, which none of them has seen. What they show is the method, at the smallest
scale at which it can be seen; what a real model keeps is another question (docs/results.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

import longgen  # noqa: F401 - registers the model classes with transformers
from longgen.data.synthetic.tokenizer import decode_bytes, encode_bytes
from longgen.evaluation.recall import Question, needle_question

HERE = Path(__file__).resolve().parent
MODELS = {
    "full": "full attention in all 6 layers",
    "longgen-sink": "full attention in 2 layers, sink + window in 4",
    "all-sparse": "sink + window in all 6 layers",
}


def unseen_text() -> np.ndarray:
    """The text of haystack.txt as bytes."""
    return encode_bytes((HERE / "haystack.txt").read_text(encoding="utf-8"))


def ask(model: PreTrainedModel, sample: Question) -> tuple[str, int]:
    """What a model answers, and the bytes of its KV cache then."""
    prompt = torch.from_numpy(sample.prompt.astype(np.int64))[None]
    count = len(sample.answer)
    said = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
        return_dict_in_generate=True,
    )
    return decode_bytes(said.sequences[0, prompt.shape[1] :].numpy()), said.past_key_values.nbytes()


def show(sample: Question, depth: float) -> None:
    """Print the ends of the text, where the key stands, and the question."""
    text = decode_bytes(sample.prompt).replace("\n", " ")
    question = text[text.rindex("The pass key") :]
    place = text.index(question)
    print(f"A text of {len(text):,} bytes, with a key at {depth:.0%} of it, that ends with a question:\n")
    print(f"  {text[:70].strip()} ...")
    print(f"  ... {text[place - 30 : place + 40].strip()} ...")
    print(f"  ... {text[-66:].strip()} ____\n")


def main() -> None:
    """Ask every model at every depth, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=2048, help="of text and answer, in tokens (bytes); default 2048")
    parser.add_argument("--depths", type=float, nargs="+", default=[0.1, 0.3, 0.5, 0.7, 0.9], help="0: start, 1: end")
    parser.add_argument("--seed", type=int, default=0, help="of the text and the keys")
    parser.add_argument("--models", type=Path, default=HERE / "models", help="folder with " + ", ".join(MODELS))
    options = parser.parse_args()
    if not 192 <= options.length <= 2048:
        parser.error(f"--length is {options.length}: allowed is 192..2048, what the models were trained on")
    if options.seed < 0:
        parser.error(f"--seed is {options.seed}: allowed is a whole number >= 0")
    if not all(0 <= depth <= 1 for depth in options.depths):
        parser.error(f"--depths is {options.depths}: allowed are numbers within 0..1")
    missing = [name for name in MODELS if not (options.models / name / "config.json").exists()]
    if missing:
        parser.error(f"--models is {options.models}: it has no {', '.join(missing)}; `make example-models` makes them")

    logging.disable_progress_bar()
    text = unseen_text()
    samples = [
        needle_question(np.random.default_rng([options.seed, number]), text, options.length, depth)
        for number, depth in enumerate(options.depths)
    ]
    middle = len(samples) // 2
    show(samples[middle], options.depths[middle])
    print(f"{'key at':<14}" + "".join(f"{depth:<8.0%}" for depth in options.depths) + "KV cache")
    print(f"{'right answer':<14}" + "".join(f"{decode_bytes(sample.answer):<8}" for sample in samples))
    whole = 0
    for name in MODELS:
        model = AutoModelForCausalLM.from_pretrained(options.models / name, dtype=torch.float32).eval()
        answers, sizes = zip(*(ask(model, sample) for sample in samples), strict=True)
        marks = (
            f"{answer + ('*' if answer == decode_bytes(sample.answer) else ''):<8}"
            for answer, sample in zip(answers, samples, strict=True)
        )
        whole = whole or sizes[0]
        saved = "" if sizes[0] == whole else f" ({sizes[0] / whole - 1:+.0%})"
        print(f"{name:<14}" + "".join(marks) + f"{sizes[0] / 2**20:.2f} MiB{saved}")
    print("\n* right")
    for name, what in MODELS.items():
        print(f"{name:<14}{what}")


if __name__ == "__main__":
    main()

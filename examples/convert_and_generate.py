"""Convert a checkpoint, generate with it, and watch its KV cache: the model side of LongGen in one script.

    python examples/convert_and_generate.py                  # a small Llama with random weights, made here
    python examples/convert_and_generate.py --model FOLDER   # your own Llama, Mistral, Qwen2 or Qwen3 checkpoint

Random weights write nonsense, and a converted model must be fine-tuned before it is any good; what the script shows is
real all the same: that every way to fill the cache gives the same tokens, and how many bytes the cache takes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

import longgen  # noqa: F401 - registers the model classes with transformers
from longgen.cache_layout import GROWTH_TOKENS
from longgen.data.synthetic.tokenizer import save_byte_tokenizer
from longgen.hybrid import Hybrid
from longgen.layout import parse_layout
from longgen.model import Model
from longgen.modeling import LongGenCache, convert_checkpoint, hybrid_of
from longgen.pattern import SparsePattern
from longgen.shapes import ModelShape

PATTERN = SparsePattern(block_size=16, sink_blocks=1, local_blocks=8)
TEXT = "The needle is hidden in a haystack, and the haystack is long. "


def make_small_llama(folder: Path) -> None:
    """A Llama of 2.5 million random weights that reads bytes."""
    torch.manual_seed(0)
    shape = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 6}
    config = LlamaConfig(**shape, vocab_size=259, max_position_embeddings=8192, bos_token_id=257, eos_token_id=258)
    LlamaForCausalLM(config).save_pretrained(folder)
    save_byte_tokenizer(folder)


def show_cache_sizes(folder: Path, model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    """Fill the cache with ever longer prompts, in chunks; compare with the planner and with full attention."""
    hybrid, shape = hybrid_of(model.config), ModelShape.from_hf_config(folder)
    full = parse_layout("all", shape.num_layers)
    width = model.dtype.itemsize
    print(f"\n{'tokens':>8}{'hybrid':>12}{'planned':>12}{'full':>12}{'saved':>9}")
    for length in (256, 1024, 4096):
        ids = tokenizer(TEXT * (length // len(TEXT) + 1), return_tensors="pt")["input_ids"][:, :length]
        cache = LongGenCache(model.config)
        with torch.inference_mode():
            for chunk in ids.split(512, dim=1):
                model(chunk, past_key_values=cache, logits_to_keep=1)
        planned = Model(shape, hybrid).kv_cache_bytes(length, width, full_chunk=GROWTH_TOKENS)
        dense = Model(shape, Hybrid(full, hybrid.pattern)).kv_cache_bytes(length, width)
        assert cache.nbytes() == planned, "the planner knows the cache to the byte"
        sizes = "".join(f"{size / 2**20:>8.2f} MiB" for size in (cache.nbytes(), planned, dense))
        print(f"{length:>8,}{sizes}{1 - cache.nbytes() / dense:>9.1%}")


def generate_in_every_way(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """One shot, in chunks, with fixed shapes, in a padded batch, and from a saved prompt: the same tokens."""
    prompt = tokenizer(TEXT * 20, return_tensors="pt")
    length = prompt["input_ids"].shape[1]
    options = {"max_new_tokens": 32, "do_sample": False, "eos_token_id": None, "pad_token_id": tokenizer.pad_token_id}

    def generate(label: str, inputs: dict, **more: object) -> torch.Tensor:
        start = time.perf_counter()
        tokens = model.generate(**inputs, **options, **more)[:, -32:]
        print(f"{label:<34}{time.perf_counter() - start:6.2f} s")
        return tokens

    print()
    expected = generate("in one shot", prompt)
    print(f"  {tokenizer.decode(expected[0])!r}")
    for label, more in (
        ("prompt in chunks of 256", {"prefill_chunk_size": 256}),
        ("fixed shapes (for torch.compile)", {"cache_implementation": "static"}),
    ):
        assert torch.equal(generate(label, prompt, **more), expected)

    tokenizer.padding_side = "left"
    batch = tokenizer([TEXT * 20, TEXT], return_tensors="pt", padding=True)
    assert torch.equal(generate("beside a shorter, padded prompt", batch)[:1], expected)

    # a prompt that many questions share is read once: all but its last token, of which the answer is asked
    cache, path = LongGenCache(model.config), folder / "prompt.safetensors"
    with torch.inference_mode():
        model(prompt["input_ids"][:, : length - 1], past_key_values=cache, logits_to_keep=1)
    cache.save(path)
    loaded = LongGenCache.load(path, model.config)
    assert torch.equal(generate("from a prompt saved on disk", prompt, past_key_values=loaded), expected)
    print("\nall the same tokens")


def main() -> None:
    """Run it all in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a Hugging Face checkpoint (safetensors)")
    parser.add_argument("--layout", default="middle:1/3", help="middle:1/3, ends:4, heads:1/3, all, none ...")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.model is None:
            make_small_llama(folder / "base")
        convert_checkpoint(arguments.model or folder / "base", folder / "hybrid", arguments.layout, PATTERN)
        model = AutoModelForCausalLM.from_pretrained(folder / "hybrid").eval()
        tokenizer = AutoTokenizer.from_pretrained(folder / "hybrid")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        print(f"{type(model).__name__}, layers from the bottom up: {model.config.longgen['layout']}")
        show_cache_sizes(folder / "hybrid", model, tokenizer)
        generate_in_every_way(model, tokenizer, folder)


if __name__ == "__main__":
    main()

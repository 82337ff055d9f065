"""GGUF files as a source: what transformers itself loads from them, byte by byte and token by token."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from longgen.data.packing.settings import LongSourceSettings, PackSettings
from longgen.data.packing.tokenizers import save_tokenizer
from longgen.errors import ArtifactError, ConfigError
from longgen.modeling import convert_checkpoint
from longgen.pattern import SparsePattern
from tests.modeling.models import tiny_base

gguf = pytest.importorskip("gguf", reason="gguf is not installed: pip install 'longgen[gguf]'")

TOKENS = [*bytes_to_unicode().values(), "Ġt", "he", "<|begin|>", "<|end|>"]
BEGIN, END = TOKENS.index("<|begin|>"), TOKENS.index("<|end|>")
TEMPLATE = "{% for m in messages %}<|begin|>{{ m['role'] }}: {{ m['content'] }}<|end|>{% endfor %}"
TEXT = "the  cat, 12 t'he <|end|> ü"


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q and k as llama.cpp has them: the pairs that RoPE turns side by side."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, model, quantization: str = "F32", fields: dict | None = None, extra=()) -> None:
    """A GGUF file of a tiny model, with a byte-level tokenizer, as llama.cpp's converter writes it."""
    config, kind = model.config, model.config.model_type
    writer = gguf.GGUFWriter(path, kind)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in TOKENS])
    writer.add_token_merges(["Ġ t", "h e"])
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_pad_token_id(END)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)
    for key, value in (fields or {}).items():
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
    names = gguf.get_tensor_name_map(writer_arch(kind), config.num_hidden_layers)
    quantized = gguf.GGMLQuantizationType[quantization]
    for name, value in [*model.state_dict().items(), *extra]:
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = value.float().numpy()
        if kind == "llama" and ("q_proj.weight" in name or "k_proj.weight" in name):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            array = permuted(array, heads)
        dtype = quantized if array.ndim > 1 else gguf.GGMLQuantizationType.F32
        stored = gguf.quantize(np.ascontiguousarray(array), dtype)
        writer.add_tensor(names.get_name(name, (".weight", ".bias")) or name, stored, raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def writer_arch(kind: str):
    return next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)


def gguf_base(family: str = "llama", **changes):
    return tiny_base(family, vocab_size=len(TOKENS), bos_token_id=BEGIN, eos_token_id=END, pad_token_id=END, **changes)


def convert(path: Path, destination: Path, **options):
    return convert_checkpoint(path, destination, "all", SparsePattern(8, 1, 2, 4), **options)


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(3, 73)[None]).logits


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "quantization", "dtype", "words"),
    [
        ("llama", "F32", None, "F32 in the GGUF file, here float32"),
        ("llama", "F16", None, "F16 in the GGUF file, here float16"),
        ("llama", "Q8_0", "bfloat16", "dequantised from Q8_0 to bfloat16"),
        ("llama", "Q4_1", None, "dequantised from Q4_1 to float32"),
        ("qwen2", "Q8_0", None, "dequantised from Q8_0 to float32"),
        ("qwen3", "Q8_0", None, "dequantised from Q8_0 to float32"),
    ],
)
def test_the_model_is_the_one_that_transformers_loads(family, quantization, dtype, words, tmp_path):
    # transformers takes Qwen3's heads to be 128 wide, whatever the file says
    base = gguf_base(family, tie_word_embeddings=family == "llama", head_dim=128 if family == "qwen3" else 16)
    write_gguf(tmp_path / "tiny.gguf", base, quantization)
    (tmp_path / "tokenizer_config.json").write_text("{}")  # of something else that was downloaded there
    convert(tmp_path / "tiny.gguf", tmp_path / "new", dtype=dtype)
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=ours.dtype)
    assert torch.equal(logits(ours), logits(theirs))
    assert (ours.config.eos_token_id, ours.config.bos_token_id) == (END, BEGIN)
    if quantization == "F32":
        torch.testing.assert_close(logits(ours), logits(base))
    card = (tmp_path / "new" / "README.md").read_text()
    assert f"The weights are those of tiny.gguf, {words}: fine-tune before use." in card
    assert all(str(tmp_path) not in path.read_text() for path in (tmp_path / "new").glob("*.json"))
    ours.save_pretrained(tmp_path / "again")
    assert torch.equal(load_file(tmp_path / "again" / "model.safetensors")["model.norm.weight"], ours.model.norm.weight)


def test_nothing_is_said_about_weights_that_stay_quantised(tmp_path, caplog):
    write_gguf(tmp_path / "tiny.gguf", gguf_base(), "Q8_0")
    caplog.set_level("WARNING")
    convert(tmp_path / "tiny.gguf", tmp_path / "new", dtype="bfloat16")
    assert "quantize" not in caplog.text


def test_a_file_that_speaks_of_layers_that_it_does_not_hold(tmp_path):
    base = gguf_base()
    write_gguf(tmp_path / "tiny.gguf", base)
    path, key, six = tmp_path / "tiny.gguf", b"llama.block_count", (6).to_bytes(4, "little")
    content = path.read_bytes()
    place = content.index(key) + len(key) + 4  # after the type of the value
    assert content[place : place + 4] == six
    path.write_bytes(content[:place] + (2**16).to_bytes(4, "little") + content[place + 4 :])
    with pytest.raises(ConfigError, match=r"num_hidden_layers is 65536: allowed is up to 6, as many as .*tiny\.gguf"):
        convert(path, tmp_path / "new")


def test_the_tokenizer_comes_along_and_a_second_call_finds_its_work_done(tmp_path):
    write_gguf(tmp_path / "tiny.gguf", gguf_base())
    assert convert(tmp_path / "tiny.gguf", tmp_path / "new").written
    ours = AutoTokenizer.from_pretrained(tmp_path / "new")
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="tiny.gguf")
    assert ours(TEXT)["input_ids"] == theirs(TEXT)["input_ids"]
    assert END in ours(TEXT)["input_ids"] and TOKENS.index("Ġt") in ours(TEXT)["input_ids"]
    assert ours.decode(ours(TEXT, add_special_tokens=False)["input_ids"]) == TEXT
    chat = [{"role": "user", "content": "hi"}]
    assert ours.apply_chat_template(chat, tokenize=False) == "<|begin|>user: hi<|end|>"
    assert not convert(tmp_path / "tiny.gguf", tmp_path / "new").written
    record = json.loads((tmp_path / "new" / "longgen_conversion.json").read_text())
    assert record["source"]["name"] == "tiny.gguf"
    write_gguf(tmp_path / "tiny.gguf", gguf_base(), "F16")
    with pytest.raises(ArtifactError, match=r"result of another conversion \(source\.files\..*\.mtime_ns is"):
        convert(tmp_path / "tiny.gguf", tmp_path / "new")


@pytest.mark.parametrize(
    ("fields", "extra", "message"),
    [
        (
            {"llama.rope.scaling.type": "linear"},
            None,
            r"llama\.rope\.scaling\.type is 'linear', which transformers does",
        ),
        (
            {"llama.expert_count": 8},
            None,
            r"llama\.expert_count is 8, which transformers does not read: allowed is a file",
        ),
        ({"split.count": 3}, None, r"split\.count is 3"),
        ({"llama.attention.sliding_window": 16}, None, r"tiny\.gguf: sliding_window is 16: .*--drop-sliding-window"),
        ({}, "rope_freqs.weight", r"tiny\.gguf holds rope_freqs\.weight, which transformers does not read"),
        ({}, "model.layers.0.self_attn.q_proj.bias", r"holds blk\.0\.attn_q\.bias, which transformers does not read"),
    ],
)
def test_what_transformers_would_drop_in_silence_is_refused(fields, extra, message, tmp_path):
    added = [(extra, torch.ones(64))] if extra else []
    write_gguf(tmp_path / "tiny.gguf", gguf_base(), fields=fields, extra=added)
    with pytest.raises(ConfigError, match=message):
        convert(tmp_path / "tiny.gguf", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_files_that_are_no_gguf_or_another_architecture(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, gguf_base())
    content = path.read_bytes()
    for damaged in (b"", b"GGUF", content[:2000], content[:-5000]):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"tiny\.gguf cannot be read \(.*\): get the file anew"):
            convert(path, tmp_path / "new")
    path.write_bytes(content.replace(b"llama", b"bloom"))
    with pytest.raises(
        ConfigError, match=r"tiny\.gguf: general\.architecture is 'bloom': allowed are llama, qwen2, qwen3"
    ):
        convert(path, tmp_path / "new")
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"weights\.bin is a file: allowed is a \.gguf file, or the folder"):
        convert(tmp_path / "weights.bin", tmp_path / "new")
    with pytest.raises(ConfigError, match=r"revision is 'v1' with the file .*tiny\.gguf"):
        convert(path, tmp_path / "new", revision="v1")
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="holds the base model"):
        convert(path, tmp_path, overwrite=True)


def test_without_the_packages_the_error_says_what_to_install(tmp_path, monkeypatch):
    write_gguf(tmp_path / "tiny.gguf", gguf_base())
    monkeypatch.setattr("longgen.modeling.conversion.gguf_file.is_gguf_available", lambda: False)
    with pytest.raises(
        ConfigError, match=r"tiny\.gguf needs packages that read GGUF: allowed with `pip install 'longgen"
    ):
        convert(tmp_path / "tiny.gguf", tmp_path / "new")


def test_a_packing_takes_the_tokenizer_of_a_gguf_file(tmp_path):
    path = tmp_path / "model.gguf"
    write_gguf(path, gguf_base())
    source = LongSourceSettings("text", "text", str(tmp_path))
    save_tokenizer(PackSettings("test", [source], str(path), "cut", [64], 640), tmp_path / "tokenizer")
    assert (tmp_path / "tokenizer" / "tokenizer.json").exists()
    text = "what the tokenizer is"
    saved = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    own = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    assert saved(text).input_ids == own(text).input_ids

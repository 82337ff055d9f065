"""One way to tokenise: text stays text, BOS stands where the tokenizer puts it, and nothing stands after a prompt."""

import ast
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

import longgen
from longgen.data.tokenization import TextEncoder, encode_prompt, encode_text, prompt_start
from longgen.errors import ConfigError

WEB = "a</s>b <s> <pad><|endoftext|>"


def wrapped(tokenizer: Tokenizer, template: str) -> PreTrainedTokenizerFast:
    """With special tokens, put round texts as ``template`` says."""
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>", "<|endoftext|>"])
    used = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>", "<|endoftext|>") if token in template]
    tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=used)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def byte_level(template: str) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: index for index, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return wrapped(tokenizer, template)


def unigram() -> PreTrainedTokenizerFast:
    """Its special tokens are words of the model, which finds them in text whatever the library is told."""
    words = ["<unk>", "<s>", "</s>", *"▁ab</s>"]
    tokenizer = Tokenizer(models.Unigram([(word, 0.0 if index < 3 else -3.0) for index, word in enumerate(words)], 0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return wrapped(tokenizer, "<s> $A </s>")


def test_text_that_spells_a_special_token_stays_text(tokenizer):
    assert encode_text(tokenizer, WEB) == encode_prompt(tokenizer, WEB) == list(WEB.encode())
    for template in ("$A", "<s> $A", "<s> $A </s>"):
        fast = byte_level(template)
        assert len(encode_text(fast, WEB)) == len(WEB)
        assert (
            fast.decode(encode_text(fast, WEB)) == fast.decode(encode_text(fast, WEB), skip_special_tokens=True) == WEB
        )


def test_special_tokens_that_are_words_of_the_model_stay_text():
    fast = unigram()
    assert fast("a</s>", add_special_tokens=False, split_special_tokens=True).input_ids == [3, 4, 2]
    spelled = ["▁", "a", "<", "/", "s", ">", "b", "▁", "<", "s", ">"]
    assert fast.convert_ids_to_tokens(encode_text(fast, "a</s>b <s>")) == spelled
    assert fast.convert_ids_to_tokens(encode_text(fast, "a\uff1c/s\uff1e")) == spelled[:6], "as normalised"
    assert fast.convert_ids_to_tokens(encode_text(fast, "日a")) == ["▁", "<unk>", "a"], "unknown is no special text"


@pytest.mark.parametrize(
    ("template", "start"),
    [("$A", []), ("<s> $A", ["<s>"]), ("<s> $A </s>", ["<s>"]), ("$A </s>", []), ("<|endoftext|> <s> $A", None)],
)
def test_a_prompt_begins_as_the_tokenizer_says_and_ends_with_the_text(template, start):
    fast = byte_level(template)
    start = ["<|endoftext|>", "<s>"] if start is None else start
    assert fast.convert_ids_to_tokens(prompt_start(fast)) == start
    for text in ("", "plain text"):
        assert fast.convert_ids_to_tokens(encode_prompt(fast, text)) == [*start, *text.replace(" ", "Ġ")]
    if "</s>" not in template:
        assert encode_prompt(fast, "plain text") == fast("plain text").input_ids, "an ordinary tokenizer's own"


def test_truncation_and_padding_that_others_left_on_do_not_matter():
    fast = byte_level("<s> $A </s>")
    expected = encode_prompt(fast, "plain text")
    assert len(fast("plain text", truncation=True, max_length=2).input_ids) == 2
    assert encode_prompt(fast, "plain text") == expected
    fast.backend_tokenizer.enable_padding(length=50)
    assert TextEncoder(fast.backend_tokenizer)("plain text") == expected[1:]


def test_nothing_else_calls_a_tokenizer():
    """Fu et al.'s protocol alone does, since it is defined by what a tokenizer with special tokens gives."""
    package, found = Path(longgen.__file__).parent, set()
    for path in package.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)):
            called = ast.unparse(call.func)
            if called.split(".")[-2:] in (["tokenizer"], ["tokenizer", "encode"], ["tokenizer", "tokenize"]):
                found.add((path.relative_to(package).as_posix(), called))
    assert found == {("evaluation/needle.py", "tokenizer.encode")}


def test_a_slow_tokenizer_is_refused():
    with pytest.raises(ConfigError, match=r"tokenizer is a str: allowed is a fast one, which has a tokenizer\.json"):
        encode_prompt("bytes", "text")

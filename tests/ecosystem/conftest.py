"""What the tests of Trainer, TRL and PEFT share."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="session")
def tokenizer():
    """Of 128 words, the numbers of the tokens."""
    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {str(number): number for number in range(3, 128)}
    made = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>")

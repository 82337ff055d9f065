"""Token ids of the byte tokenizer."""

PAD_ID = 256
BOS_ID = 257
EOS_ID = 258
# 256 bytes and 3 special tokens, padded to an even size
VOCABULARY_SIZE = 260

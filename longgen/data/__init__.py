"""Data: sources, tokenizer, corpus, synthetic documents and packed training rows."""

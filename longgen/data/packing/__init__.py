"""Long training rows from a corpus of any size: read, tokenise, up-sample long documents, pack (docs/long-data.md)."""

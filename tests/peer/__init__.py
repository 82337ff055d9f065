"""transformers' own common model tests, run against hybrids by `make peer-tests`; pytest collects none of this."""

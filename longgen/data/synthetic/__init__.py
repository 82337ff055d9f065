"""Generated documents of the small runs: a corpus in bytes, facts to find in it, and their training rows."""

"""Results files: what their records are, declared once (`longgen.records.kinds`), and what is shared to write them."""

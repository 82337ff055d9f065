"""Parts of `longgen.modeling.convert`: where a checkpoint comes from, its weights, and what is written with them."""

"""The model card: what the hybrid is, what its KV cache costs, and what it still needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from longgen.cache_layout import GROWTH_TOKENS
from longgen.hybrid import Hybrid
from longgen.layout import Layout
from longgen.model import CostPlan, Model, make_plan
from longgen.modeling.rope import describe_rope
from longgen.pattern import SparsePattern
from longgen.shapes import ModelShape
from longgen.units import binary_size

# Rows of the table: the longest length, and as many halves of it.
LENGTHS = 6


@dataclass(frozen=True)
class ModelCard:
    """What the card of a hybrid says.

    Attributes:
        base: name of the base model.
        on_hub: whether that is an id of the hub.
        model_type: the hybrid's.
        hybrid: its layout and pattern.
        rope: its ``rope_parameters``.
        max_length: longest sequence, in tokens.
        shape: its sizes.
        bytes_per_value: of the weights, and hence of the cache.
        attention_dropout: the base's, which is 0 in the hybrid.
        weights: what became of the base's weights: unchanged, or cast or dequantised to what.
    """

    base: str
    on_hub: bool
    model_type: str
    hybrid: Hybrid
    rope: dict[str, Any]
    max_length: int
    shape: ModelShape
    bytes_per_value: int
    attention_dropout: float = 0
    weights: str = "unchanged"

    @property
    def lost_dropout(self) -> str | None:
        """That the base's attention had dropout in training, in words; None where it had none."""
        if not self.attention_dropout:
            return None
        was = self.attention_dropout
        return f"attention_dropout is 0 instead of {was}, since our attention has none: nothing but training is changed"

    def plan(self, length: int) -> CostPlan:
        """The planner's predictions at ``length``, for one sequence."""
        return make_plan(Model(self.shape, self.hybrid), length, bytes_per_value=self.bytes_per_value)

    def text(self) -> str:
        """The card, as Markdown with the hub's metadata at its head."""
        layout = self.hybrid.layout
        return _TEMPLATE.format(
            base=self.base,
            base_model=f"base_model: {self.base}\n" if self.on_hub else "",
            model_type=self.model_type,
            weights=self.weights,
            full=f"{layout.num_full:g} of {layout.num_layers}",
            drawing=draw_layout(layout),
            pattern=pattern_in_words(self.hybrid.pattern),
            rope=describe_rope(self.rope),
            length=f"{self.max_length:,}",
            dropout=f"- {self.lost_dropout}.\n" if self.lost_dropout else "",
            rows="\n".join(self._row(self.max_length >> halvings) for halvings in reversed(range(LENGTHS))),
            width=8 * self.bytes_per_value,
            growth=GROWTH_TOKENS,
        )

    def _row(self, length: int) -> str:
        plan = self.plan(max(length, 1))
        sizes = f"{binary_size(plan.kv_bytes_full)} | {binary_size(plan.kv_bytes)}"
        return f"| {plan.length:,} | {sizes} | {100 * plan.kv_reduction:.1f} % |"


def draw_layout(layout: Layout) -> str:
    """A letter per layer from the bottom up: F full, s sparse, h full in some heads; with their number where mixed."""
    drawing = "".join(_letter(flags) for flags in layout.full)
    counts = [f"{sum(flags)}/{len(flags)}" for flags in layout.full if not isinstance(flags, bool)]
    return f"`{drawing}`" + (f" (h: {', '.join(counts)} of the KV heads are full)" if counts else "")


def _letter(flags: bool | tuple[bool, ...]) -> str:
    return ("F" if flags else "s") if isinstance(flags, bool) else "h"


def pattern_in_words(pattern: SparsePattern) -> str:
    """What a query of a sparse layer sees."""
    size = pattern.block_size
    parts = [f"the first {pattern.sink_blocks * size:,} tokens (attention sink)"] if pattern.sink_blocks else []
    window = (
        f"the last {pattern.local_blocks} blocks, its own included" if pattern.local_blocks > 1 else "its own block"
    )
    parts.append(f"{window} (sliding window)")
    if pattern.stride:
        where = ", at different places for different KV heads" if pattern.staggered else ""
        parts.append(f"every {pattern.stride}th block before{where}")
    text = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
    return f"{text}; a block is {size:,} tokens"


_TEMPLATE = """---
library_name: transformers
pipeline_tag: text-generation
{base_model}tags: [longgen, {model_type}]
---
# LongGen hybrid of {base}

Made by `longgen convert`. **The weights are those of {base}, {weights}: fine-tune before use.** The sparse layers have
lost what they attended to, and until they have learned to do without, the model answers worse than its base.

- Full attention in {full} layers, from the bottom up (F full, s sparse): {drawing}
- A query of a sparse layer sees, of the tokens up to itself: {pattern}.
- RoPE: {rope}. Longest sequence: {length} tokens.
{dropout}
## KV cache

For one sequence in {width}-bit values, computed from the layout and the pattern. This is arithmetic, not a measurement;
the cache holds exactly these tokens, and its full layers reserve memory in steps of {growth} tokens.

| tokens | full attention | this model | saved |
|---|---|---|---|
{rows}

## How to load

```python
import longgen  # registers the model class; without it, loading fails
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("PATH")
tokenizer = AutoTokenizer.from_pretrained("PATH")
```

## Licence

The weights are those of {base}, and its licence and terms of use apply to them; files that state them are beside this
one where the base came with any. How this model was made: `longgen_conversion.json`.
"""

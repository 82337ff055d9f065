"""Which variants share a panel of lines: few stand together, many as the paper's ablations compare them."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from longgen.reporting import families
from longgen.reporting.dot_rows import comparisons
from longgen.reporting.run import Plan

TOGETHER = 6  # lines that one panel shows without covering each other
OTHERS = "others"  # the title of what the plan does not know


def shared_panels(plan: Plan, names: Iterable[str]) -> dict[str, list[str]]:
    """The variants of each panel by its title, in the order drawn; one panel without a title where they are few.

    Of many, full attention and the reference are in every panel, to compare the others with; all-sparse is a ratio.
    """
    names = list(names)
    if len(names) <= TOGETHER:
        return {"": names}
    family_of = families.families(plan)
    known = [name for name in names if name in family_of]
    table = pd.DataFrame(
        {
            "variant": known,
            "family": [family_of[name] for name in known],
            "full_layers": [plan.variants[name].layout.num_full for name in known],
        }
    )
    panels = {str(title): list(rows["variant"]) for title, rows in comparisons(table).groupby("comparison", sort=False)}
    unknown = [name for name in names if name not in family_of]
    return panels | ({OTHERS: unknown} if unknown else {})

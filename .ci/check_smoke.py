"""After `make run`: the files are there, and the run shows what it is there to show."""

import csv
import sys
from pathlib import Path

FIGURES = Path("paper_figures/smoke")
COLUMNS = "variant full_layers placement pattern kv_fraction needle_exact needle_exact_low needle_exact_high"


def rows(name: str) -> list[dict[str, str]]:
    with (FIGURES / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Share of the needles. Full attention and its hybrids find nearly all of them, and other processors round otherwise.
KEPT, LOST = 0.8, 0.5

failures = []
ablation = {row["variant"]: row for row in rows("ablation.csv")}
for column in [*COLUMNS.split(), "prefill_speedup", "decode_speedup"]:
    if any(not row[column] for row in ablation.values()):
        failures.append(f"ablation.csv: {column} is empty")
for variant in ("full", "longgen-sink", "longgen-stride"):
    if float(ablation[variant]["needle_exact"]) < KEPT:
        failures.append(f"{variant} finds {ablation[variant]['needle_exact']} of the needles, not {KEPT}")
if float(ablation["all-sparse"]["needle_exact"]) > LOST:
    failures.append(f"all-sparse finds {ablation['all-sparse']['needle_exact']} of the needles, beyond its window")
verdicts = {row["verdict"] for row in rows("claims.csv")}
by_share = {"share reached", "share not reached", "disturbed"}
if not verdicts <= {"holds", "not shown", "does not hold", "not measured"} | by_share or not verdicts & by_share:
    failures.append(f"claims.csv has the verdicts {verdicts}")
for name in ("pattern", "layouts", "needle", "ratio_placement_pattern", "speedup", "kv"):
    failures += [f"{name}.{s} is missing" for s in ("png", "pdf", "csv") if not (FIGURES / f"{name}.{s}").exists()]

print("\n".join(failures) or "the smoke run shows what it should")
sys.exit(bool(failures))

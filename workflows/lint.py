"""`snakemake --lint`, with the one exception we make.

All rules call the same package from the same environment (`make setup`): a conda environment or container per rule
would only say the same ten times. Every other lint fails.
"""

import re
import subprocess
import sys

EXCEPTION = "Specify a conda environment or container for each rule"

outcome = subprocess.run([sys.executable, "-m", "snakemake", "--lint"], capture_output=True, text=True, check=False)
output = outcome.stdout + outcome.stderr
lints = re.findall(r"^ {4}\* (.*)", output, re.MULTILINE)
others = [lint for lint in lints if not lint.startswith(EXCEPTION)]
if others or (outcome.returncode and not lints):
    print(output)
    sys.exit(1)
print("snakemake --lint: clean, but for one environment for all rules (on purpose)")

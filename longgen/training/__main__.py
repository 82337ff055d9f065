"""`python -m longgen.training CONFIG ...`: the verb `longgen train`, one of several processes or the only one."""

import os
import sys

from longgen.cli import main
from longgen.training.slurm import process_environment

if __name__ == "__main__":
    os.environ |= process_environment()
    sys.argv = ["longgen", "train", *sys.argv[1:]]
    main()

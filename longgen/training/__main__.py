"""`torchrun --nproc-per-node N -m longgen.training CONFIG ...`: the verb `longgen train` on several processes."""

import sys

from longgen.cli import main

if __name__ == "__main__":
    sys.argv = ["longgen", "train", *sys.argv[1:]]
    main()

"""torchrun, ending as its processes do: with the exit code of the first that failed, and without a traceback.

    python -m longgen.training.torchrun --standalone --nproc-per-node 2 -m longgen train CONFIG ...

What went wrong the processes say themselves; torchrun's own exit code is 1 whatever theirs is.
"""

from __future__ import annotations

import longgen.passive  # noqa: F401
from longgen.program import run_program


def main() -> int:
    """The command line of torchrun; the exit code of a shell where a signal ended it or a process."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun()
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        return first.exitcode if first.exitcode >= 0 else 128 - first.exitcode
    except SignalException as error:
        return 128 + error.sigval
    return 0


if __name__ == "__main__":
    run_program(main)

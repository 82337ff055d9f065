"""`python -m longgen`, of which the first process kills torchrun in step 12; then all wait for their end."""

import os
import runpy
import signal

from tests.training.moments import during_step

if __name__ == "__main__":
    starter = os.getppid()

    def kill() -> None:
        if os.environ["RANK"] == "0":
            os.kill(starter, signal.SIGKILL)
        signal.pause()

    during_step(12, kill)
    runpy.run_module("longgen", run_name="__main__")

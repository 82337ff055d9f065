"""Errors that a user can act on: the command line prints their message without a traceback."""

import signal

TO_BE_CONTINUED = 75  # exit code: sysexits.h calls it EX_TEMPFAIL, "the user is invited to retry"


class LongGenError(ValueError):
    """Something the user can mend: the message names the file or key, its value, and what is allowed.

    Attributes:
        exit_code: of the command that ends with it.
    """

    exit_code = 2


class ConfigError(LongGenError):
    """A configuration value is unknown, of the wrong type or impossible."""


class TrainingError(LongGenError):
    """Training cannot go on: its numbers are no numbers any more."""


class TrainingStoppedError(LongGenError):
    """Training was asked to stop by signal ``number``, and did after ``step``; the same command goes on from there.

    Its exit code is `TO_BE_CONTINUED` after SIGUSR1, when time is up; otherwise that of a shell for the signal.
    """

    def __init__(self, number: int, step: int, total: int, checkpoint: object) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name} after step {step} of {total}: the checkpoint in {checkpoint} is "
            "complete, and the same command goes on from it"
        )
        self.exit_code = TO_BE_CONTINUED if number == signal.SIGUSR1 else 128 + number


class ProbeStoppedError(LongGenError):
    """The time that a probe was given is over; the same command goes on with what is still to be measured."""

    exit_code = TO_BE_CONTINUED

    def __init__(self, measurements: object) -> None:
        super().__init__(
            f"stopped, since the time is over: what was measured is in {measurements}, and the same command goes on "
            "from there"
        )


class ArtifactError(LongGenError):
    """A file that an earlier step makes is missing, incomplete or corrupt."""


class OutputError(LongGenError):
    """Something cannot be written, as on a full disk; nothing of it stays.

    Attributes:
        reason: why, without what and without advice.
    """

    def __init__(self, path: object, reason: str, otherwise: str) -> None:
        super().__init__(f"{path}: cannot be written ({reason}): {otherwise}")
        self.reason = reason


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise ConfigError ``<name> is <value>: allowed is <allowed>`` unless ``condition``."""
    if not condition:
        raise ConfigError(f"{name} is {value!r}: allowed is {allowed}")

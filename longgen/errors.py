"""Errors that a user can act on: the command line prints their message without a traceback."""


class LongGenError(ValueError):
    """Something the user can mend: the message names the file or key, its value, and what is allowed."""


class ConfigError(LongGenError):
    """A configuration value is unknown, of the wrong type or impossible."""


class TrainingError(LongGenError):
    """Training cannot go on: its numbers are no numbers any more."""


class ArtifactError(LongGenError):
    """A file that an earlier step makes is missing, incomplete or corrupt."""


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise ConfigError ``<name> is <value>: allowed is <allowed>`` unless ``condition``."""
    if not condition:
        raise ConfigError(f"{name} is {value!r}: allowed is {allowed}")

"""Benchmarks of short contexts through lm-eval, with our models registered there as ``longgen``."""

from __future__ import annotations

import importlib.util
import logging

from longgen.errors import ConfigError


def need_lm_eval() -> None:
    """Raise ConfigError, with the command that helps, unless lm-eval is installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError("lm-eval is not installed: `pip install 'longgen[lm-eval]'` installs it")


def quiet_lm_eval() -> None:
    """Let lm-eval, which warns of what we mean to do, and datasets report errors alone."""
    import datasets

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()

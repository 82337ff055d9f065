"""lm-eval's own command line, with our model: ``python -m longgen.evaluation.short_context --model longgen ...``.

lm-eval 0.4.13 finds no models by entry points: somebody has to import ours.
"""

import longgen.passive  # noqa: F401
from longgen.evaluation.short_context import need_lm_eval
from longgen.program import run_program


def main() -> None:
    """The command line of lm-eval; ConfigError if it is not installed."""
    need_lm_eval()
    from lm_eval.__main__ import cli_evaluate

    import longgen.evaluation.short_context.model  # noqa: F401

    cli_evaluate()


if __name__ == "__main__":
    run_program(main, "longgen.evaluation.short_context")

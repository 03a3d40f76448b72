"""Hands our multirun to Hydra, for a `@hydra.main` of one's own over `conf/`; `src.train -m` goes there directly.

Hydra imports this at every composition, so it imports the rest when it is needed.
"""

import sys
from typing import Any

from hydra.plugins.sweeper import Sweeper


class ToastSweeper(Sweeper):
    """Plans and runs what `-m` asks for exactly as `src.train -m` does; the app's own function is not called.

    Hydra builds its sweeper before it has read `experiment=`, and drops an experiment's grid: so this takes nothing
    but the arguments, and the plan composes each experiment itself.
    """

    def setup(self, **_: Any) -> None:
        """Take nothing from Hydra."""

    def sweep(self, arguments: list[str]) -> None:
        """Run everything, or end the process with the code that src.train would end with."""
        from src.train import main

        code = main(["-m", *arguments])
        if code:
            sys.exit(code)

"""What a run command's arguments ask for: a config composed anew, or a saved one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.config.compose import compose_config
from src.config.saved import load_config


def read_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """The resolved config; `config=<file>` starts from a saved one. Raises UserError."""
    files = [argument.partition("=")[2] for argument in arguments if argument.startswith("config=")]
    if not files:
        return compose_config(arguments)
    rest = [argument for argument in arguments if not argument.startswith("config=")]
    return load_config(Path(os.path.abspath(os.path.expanduser(files[-1]))), rest)

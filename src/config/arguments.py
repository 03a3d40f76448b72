"""What a run command's arguments ask for: a config composed anew, or a saved one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from src.config.compose import compose_config
from src.config.saved import load_config
from src.records import UserError


def read_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """The resolved config; `config=<file>` starts from a saved one. Raises UserError."""
    arguments = [word for argument in arguments for word in chosen(argument)]
    files = [argument.partition("=")[2] for argument in arguments if argument.startswith("config=")]
    if not files:
        return compose_config(arguments)
    rest = [argument for argument in arguments if not argument.startswith("config=")]
    return load_config(Path(os.path.abspath(os.path.expanduser(files[-1]))), rest)


def chosen(argument: str) -> list[str]:
    """The values that `chosen=<file>`, which a search has written, stands for; any other argument is itself.

    Raises UserError for a file that is none of a search's.
    """
    if not argument.startswith("chosen="):
        return [argument]
    path = Path(os.path.expanduser(argument.partition("=")[2]))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return [f"{key}={float(content[key])!r}" for key in ("optim.lr", "optim.weight_decay")]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not what a search has chosen ({error}); give a file of <paths.runs>/chosen"
        ) from error

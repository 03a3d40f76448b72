"""What a multirun consists of: one list of arguments a run, all of them checked before the first starts."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from src.config.compose import compose_config, parse_sweep
from src.records import UserError


@dataclass(frozen=True)
class Job:
    """One run of a multirun: its arguments and its resolved config."""

    arguments: list[str]
    config: dict[str, Any]


def plan(arguments: Sequence[str]) -> list[Job]:
    """Every combination of the values that the arguments list (`seed=42,44`, `choice(...)`, `range(...)`).

    The last list varies fastest. Raises UserError, before anything starts, for a combination that cannot be composed.
    """
    axes = [parse_sweep(argument) for argument in arguments]
    combinations = [list(combination) for combination in itertools.product(*axes)]
    if not combinations:
        raise UserError("the multirun is empty: a list of values without a value")
    return [Job(combination, compose_config(combination)) for combination in combinations]

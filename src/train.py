"""python -m src.train: one run from its config to its record, or with -m one for every combination of values."""

import sys
from collections.abc import Sequence

from src.config.manual import manual
from src.records import UserError, complain, end_with_reader

MULTIRUN = {"-m", "--multirun"}


def main(arguments: Sequence[str]) -> int:
    """Start, go on with, or return runs; the exit code says how they ended."""
    if not arguments or "--help" in arguments or "-h" in arguments:
        end_with_reader()
        print(manual())
        return 0
    rest = [argument for argument in arguments if argument not in MULTIRUN]
    try:
        return one(arguments) if len(rest) == len(arguments) else many(rest)
    except UserError as error:
        return complain(error)
    except KeyboardInterrupt:  # while still importing; a run turns signals into Stopped
        return 130


def one(arguments: Sequence[str]) -> int:
    """One run."""
    from src.config.arguments import read_arguments

    config = read_arguments(arguments)
    if config.get("launcher", {}).get("name", "inline") != "inline":
        raise UserError(f"launcher={config['launcher']['name']} is for several runs; add -m")
    if config.get("dry_run"):
        return many(arguments)
    from src.training.run import run
    from src.training.signals import Stopped, leave

    try:
        record = run(config)
    except Stopped as error:
        return leave(error)
    return 3 if record.status == "diverged" else 0


def many(arguments: Sequence[str]) -> int:
    """One run for every combination of the values listed, or searches, then a table; 1 if any failed."""
    from src.sweep.multirun import multirun

    return multirun(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""python -m src.train: one run, from its config to its record."""

import sys
from collections.abc import Sequence

from src.config.manual import manual
from src.records import UserError, complain


def main(arguments: Sequence[str]) -> int:
    """Start, go on with, or return a run; the exit code says how it ended."""
    if not arguments or "--help" in arguments or "-h" in arguments:
        print(manual())
        return 0
    try:
        from src.config.arguments import read_arguments

        config = read_arguments(arguments)
        from src.training.run import run
        from src.training.signals import Stopped
    except UserError as error:
        return complain(error)
    try:
        record = run(config)
    except UserError as error:
        return complain(error)
    except Stopped as error:
        return error.code
    return 3 if record.status == "diverged" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

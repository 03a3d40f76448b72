"""python -m src.evaluate run=<run folder> [key=value ...]: the test split again, from what the run saved.

Writes predictions.csv into the folder, a row an image. key=value replaces a value of the run's config, such as
data.root=<folder>, backbone.file=<file> or trainer.precision=32-true.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from src.records import UserError, complain, end_with_reader, read_record


def main(arguments: Sequence[str]) -> int:
    """Evaluate, print accuracy beside the recorded one; 0, or 2 for a mistake."""
    runs = [argument.partition("=")[2] for argument in arguments if argument.startswith("run=")]
    end_with_reader()
    if len(runs) != 1 or "--help" in arguments:
        print(__doc__)
        return 0 if "--help" in arguments else 2
    folder = Path(os.path.abspath(os.path.expanduser(runs[0])))
    try:
        from src.training.evaluate import evaluate
        from src.training.signals import Stopped, leave, stopping_on_signals
    except KeyboardInterrupt:  # while still importing
        return 130
    try:
        with stopping_on_signals():
            results = evaluate(folder, [argument for argument in arguments if not argument.startswith("run=")])
            record = read_record(folder)
    except Stopped as error:
        return leave(error)
    except UserError as error:
        return complain(error)
    recorded = record.metrics.get("test/accuracy") if record else None
    said = "" if recorded is None else f" (the record says {recorded:.4%})"
    print(f"test accuracy {results['accuracy']:.4%}{said}, loss {results['loss']:.4f}")
    print(f"one row an image: {folder / 'predictions.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""python -m tests.parity FOLDER: recompute the golden numbers in a folder and compare."""

import sys
from collections import Counter
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tests.parity.compare import KINDS, Comparison, compare


def main(arguments: list[str]) -> int:
    """Print the largest error of every file; 0 if all are within tolerance, 1 if not, 2 if there is nothing to do."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__)
        return 2
    files = sorted(Path(arguments[0]).glob("*.npz"))
    if not files:
        print(f"{arguments[0]} holds no .npz files; give the folder of golden numbers")
        return 2
    torch.set_num_threads(1)
    results = [compare(path) for path in files]
    covered = [result for result in results if result.arrays or result.wrong]
    console = Console()
    console.print(table(covered))
    for result in results:
        for line in result.wrong:
            console.print(f"[red]{result.name}[/]: {line}", highlight=False)
    later = Counter(result.name for result in results for _ in result.uncovered)
    if later:
        console.print("not covered yet:", ", ".join(f"{name} ({count} arrays)" for name, count in later.items()))
    wrong = [result.name for result in covered if result.wrong]
    total = sum(result.arrays for result in covered)
    console.print(f"{len(covered)} files, {total} arrays compared, {len(wrong)} files above tolerance")
    return 1 if wrong or not total else 0


def table(results: list[Comparison]) -> Table:
    """A row a file: arrays compared, and the largest relative error of each kind."""
    shown = Table("file", "arrays", *KINDS, "")
    for result in results:
        errors = [f"{result.largest[kind]:.1e}" if kind in result.largest else "" for kind in KINDS]
        shown.add_row(result.name, str(result.arrays), *errors, "[red]above" if result.wrong else "[green]ok")
    return shown


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

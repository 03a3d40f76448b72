"""python -m src.list [GROUP]: what there is to choose, each with one line about it."""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.config.manual import choices

GROUPS = {
    "experiments": "experiment",
    "methods": "method",
    "data": "data",
    "backbones": "backbone",
    "recipes": "recipe",
    "presets": "preset",
    "trainers": "trainer",
    "loggers": "logger",
    "debug": "debug",
}


def main(arguments: list[str]) -> int:
    """Print every group, or the one that was asked for; 2 for one that is not there."""
    if {"-h", "--help"} & set(arguments):
        print(f"{__doc__}\nGROUP is one of {', '.join(GROUPS)}.")
        return 0
    wanted = arguments or list(GROUPS)
    unknown = [name for name in wanted if name not in GROUPS]
    if unknown:
        print(f"there is no group {unknown[0]}; give one of {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    console = Console(highlight=False)
    for number, name in enumerate(wanted):
        if number:
            console.print()
        show(console, name, GROUPS[name])
    return 0


def show(console: Console, title: str, group: str) -> None:
    """Print a group: how it is chosen, then a line an option."""
    console.print(Text.assemble((title, "bold"), f"  {group}=..."))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", overflow="fold")
    table.add_column(overflow="fold")
    for option, about in choices(group).items():
        table.add_row(Text(f"  {option}"), Text(about))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

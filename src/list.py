"""python -m src.list [GROUP]: what there is to choose, each with one line about it."""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.config.manual import CONF, choices
from src.records import end_with_reader

GROUPS = {
    "experiments": "experiment",
    "methods": "method",
    "data": "data",
    "backbones": "backbone",
    "recipes": "recipe",
    "presets": "preset",
    "trainers": "trainer",
    "loggers": "logger",
    "launchers": "launcher",
    "debug": "debug",
}
TABLES = "tables"
EXPERIMENTS = CONF.parent / "experiments"


def main(arguments: list[str]) -> int:
    """Print every group, or those that were asked for; 2 for one that is not there."""
    end_with_reader()
    known = [*GROUPS, TABLES]
    if {"-h", "--help"} & set(arguments):
        print(f"{__doc__}\nGROUP is one of {', '.join(known)}.")
        return 0
    wanted = arguments or known
    unknown = [name for name in wanted if name not in known]
    if unknown:
        print(f"there is no group {unknown[0]}; give one of {', '.join(known)}", file=sys.stderr)
        return 2
    console = Console(highlight=False)
    for number, name in enumerate(wanted):
        if number:
            console.print()
        if name == TABLES:
            show(console, name, "experiments/.../README.md has the commands", tables())
        else:
            show(console, name, f"{GROUPS[name]}=...", choices(GROUPS[name]))
    return 0


def tables() -> dict[str, str]:
    """The folders of the paper's tables, and the first line of each one's read-me."""
    readmes = sorted(EXPERIMENTS.glob("*/README.md"))
    return {file.parent.name: file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for file in readmes}


def show(console: Console, title: str, how: str, options: dict[str, str]) -> None:
    """Print a group: how it is chosen, then a line an option."""
    console.print(Text.assemble((title, "bold"), f"  {how}"))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", overflow="fold")
    table.add_column(overflow="fold")
    for option, about in options.items():
        table.add_row(Text(f"  {option}"), Text(about))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""python -m src.doctor [paths.NAME=FOLDER ...]: versions, devices, room, data and weights; whether training can run."""

import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from src.records import end_with_reader

if TYPE_CHECKING:
    from rich.console import Console

    from src.report.machine import Finding

STYLES = {"ok": "green", "note": "yellow", "broken": "bold red"}
ESSENTIAL = ("versions", "torch and torchvision", "room")


def main(arguments: list[str]) -> int:
    """Print every finding; 0 if training can run, 1 if something that it needs is broken."""
    end_with_reader()
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    foreign = [argument for argument in arguments if not argument.startswith("paths.") or "=" not in argument]
    if foreign:
        print(f"{foreign[0]} is not for this command; it takes paths.data= paths.weights= paths.runs=", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    try:
        return look(arguments)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        print(f"broken: python {sys.version.split()[0]} at {sys.executable} lacks what the project needs ({error});")
        print("install it for Python 3.11 or later: make setup, then .venv/bin/python -m src.doctor")
        return 1


def look(arguments: list[str]) -> int:
    """Print section by section, as each comes to be known."""
    # Imported late: what is missing must end in a sentence.
    from rich.console import Console

    from src.report import machine

    console = Console(highlight=False)
    sections: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": machine.versions,
        "torch and torchvision": machine.pair,
        "devices": machine.devices,
        "room": lambda: machine.room(arguments),
        "data": lambda: machine.data(arguments),
        "weights": lambda: machine.weights(arguments),
        "extras": machine.extras,
    }
    broken = []
    for title, probe in sections.items():
        findings: list[Finding] = []
        try:
            findings.extend(probe())
        except Exception as error:
            text = f"cannot be looked at: {machine.sentence(error)}"
            findings.append(machine.Finding(title, text, "broken" if title in ESSENTIAL else "note"))
        show(console, title, findings)
        if any(finding.state == "broken" for finding in findings):
            broken.append(title)
    verdict = f"Training cannot run before this is mended: {', '.join(broken)}." if broken else "Training can run."
    console.print(verdict, style="bold red" if broken else "bold green")
    return 1 if broken else 0


def show(console: "Console", title: str, findings: "list[Finding]") -> None:
    """Print one section."""
    from rich.table import Table
    from rich.text import Text

    console.print(Text(title, "bold"))
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        row = Table.grid(padding=(0, 1))
        row.add_column(width=8)
        row.add_column(overflow="fold")
        row.add_row(Text(f"  {finding.state}", STYLES[finding.state]), Text(f"{finding.name:<{width}}  {finding.text}"))
        console.print(row)
        if finding.command:
            # On one line, whatever the terminal's width: it is there to be copied.
            console.print(Text(f"           {finding.command}"), soft_wrap=True)
    console.print()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

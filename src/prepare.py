"""python -m src.prepare data=fgvc/NAME [data.root=FOLDER]: makes a data set's folder of what you have downloaded.

Checks sizes and checksums of the archives, unpacks them, and counts images and classes; what is there already is only
counted. Names are cub, nabirds, flowers, dogs, cars; -m data=fgvc/cub,fgvc/dogs does one after another.

  data.root      the data set's folder; without it a named folder under paths.data
  data.archives  where the downloads are; without it looked for in data.root and the folder that it lies in
  data.official  false: accept other files than the original ones, such as a mirror's packing
  data.subset    true: accept missing images

Interrupted, the same command goes on where it stopped. Exit codes: 0 prepared, 2 something is missing or wrong.

What to fetch by hand, with sizes in bytes:
"""

import itertools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data.prepare.archives import DOWNLOADS, to_fetch
from src.records import UserError, complain

if TYPE_CHECKING:
    from src.data.prepare.fgvc import Prepared

MULTIRUN = {"-m", "--multirun"}
KEYS = {"data", "data.root", "data.archives", "data.official", "data.subset"}
SETS = ", ".join(f"data=fgvc/{name}" for name in DOWNLOADS)


def main(arguments: Sequence[str]) -> int:
    """Prepare every data set asked for; 2 if any could not be."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(f"{__doc__}{to_fetch()}")
        return 0
    code = 0
    try:
        for words in jobs(arguments):
            try:
                one(words)
            except UserError as error:
                code = complain(error)
            except PermissionError as error:
                code = complain(UserError(f"{error.filename} cannot be read ({error.strerror}); check its permissions"))
    except UserError as error:
        return complain(error)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return code


def jobs(arguments: Sequence[str]) -> list[tuple[str, ...]]:
    """The arguments of each data set. Raises UserError for what is not for this command."""
    rest = [argument for argument in arguments if argument not in MULTIRUN]
    for argument in rest:
        key = argument.partition("=")[0]
        if "=" not in argument or (key not in KEYS and not key.startswith("paths.")):
            raise UserError(f"{argument} is not for this command; it takes {' '.join(sorted(KEYS))} paths.data")
    if not any(argument.startswith("data=") for argument in rest):
        raise UserError(f"which data set? give one of {SETS}")
    if len(rest) == len(arguments):
        return [tuple(rest)]
    from src.config.compose import parse_sweep

    return list(itertools.product(*map(parse_sweep, rest)))


def one(arguments: Sequence[str]) -> None:
    """Prepare one data set and print what is there."""
    data = chosen(arguments)
    from src.data.prepare.fgvc import prepare

    archives = Path(data["archives"]) if data["archives"] else None
    found = prepare(data["name"], Path(data["root"]), archives, official=data["official"], subset=data["subset"])
    show(data["name"], found)
    print(shlex.join(["python", "-m", "src.train", "experiment=fgvc/toast", *train_arguments(data)]))


def chosen(arguments: Sequence[str]) -> dict[str, Any]:
    """The config's `data`, as far as it matters here and without what only a recipe could fill in. Raises UserError."""
    from src.config.compose import check_option, hydra_compose, hydra_ready, is_group, parse, put_back, split_paths

    words, paths = split_paths(arguments)
    with hydra_ready():
        for override in filter(is_group, parse(words)):
            check_option(override)
        # `archives` and `official` are no keys of the data set, but of preparing it.
        own = [f"++{word}" if word.startswith(("data.archives=", "data.official=")) else word for word in words]
        node = hydra_compose(own)["data"]
        if node.get("name") not in DOWNLOADS:
            raise UserError(f"there is nothing to prepare for this data set; give one of {SETS}")
        data = {key: node.get(key) for key in ("name", "root", "archives", "official", "subset")}
    found: dict[str, Any] = put_back(data, paths)
    found["official"] = True if found["official"] is None else found["official"]
    for key in ("official", "subset"):
        if not isinstance(found[key], bool):
            raise UserError(f"data.{key}={found[key]} is neither true nor false")
    return found


def train_arguments(data: dict[str, Any]) -> list[str]:
    """What a run on this folder is started with."""
    words = [f"data=fgvc/{data['name']}", f"data.root={data['root']}"]
    return [*words, "data.subset=true"] if data["subset"] else words


def show(name: str, found: "Prepared") -> None:
    """Print what a data set's folder holds."""
    from rich.console import Console
    from rich.table import Table

    table = found.table
    console = Console(highlight=False)
    state = "prepared" if found.changed else "was prepared already"
    console.print(f"{name} {state}: {found.folder}", markup=False, soft_wrap=True)
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(justify="right")
    for split, images in table.splits.items():
        grid.add_row(f"  {split}", f"{len(images.labels):,}")
    grid.add_row("  classes", f"{len(table.classes):,}")
    console.print(grid)
    marks = [*table.marks, *([] if table.official else ["not official: images are missing"])]
    if marks:
        console.print(f"  {', '.join(marks)}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

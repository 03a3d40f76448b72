"""python -m src.prepare data=NAME [data.root=FOLDER]: makes a data set's folder of what you have downloaded.

  data=fgvc/cub             also nabirds, flowers, dogs, cars: checks the archives, unpacks them, counts
  data=vtab data.task=dtd   VTAB-1k, any of its tasks or all: builds it with tensorflow-datasets, proves the examples,
                            and packs what training reads; what lies nowhere is fetched, where that is possible

-m data=fgvc/cub,fgvc/dogs does one after another, and so does -m data=vtab data.task=dtd,svhn.

  data.root      the data set's folder; without it a named folder under paths.data
  data.archives  where the downloads are; without it looked for in data.root (and for FGVC in the folder around it)
  data.official  false: accept other files than the original ones, such as a mirror's packing or a part of the set
  data.subset    true: accept missing images (FGVC)

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
from src.data.vtab.tasks import SOURCES, tasks_of
from src.records import UserError, complain

if TYPE_CHECKING:
    from src.data.prepare.fgvc import Prepared
    from src.data.vtab.pack import Manifest

MULTIRUN = {"-m", "--multirun"}
KEYS = {"data", "data.root", "data.archives", "data.official", "data.subset", "data.task"}
SETS = ", ".join([*(f"data=fgvc/{name}" for name in DOWNLOADS), "data=vtab"])


def main(arguments: Sequence[str]) -> int:
    """Prepare every data set asked for; 2 if any could not be."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(f"{__doc__}{to_fetch()}\n{vtab_to_fetch()}")
        return 0
    code = 0
    try:
        asked = jobs(arguments)
        for words in asked:
            check(words)
        for words in asked:
            try:
                code = max(code, one(words))
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


def vtab_to_fetch() -> str:
    """What each source of VTAB-1k consists of, and what is wanted by hand."""
    lines = ["data=vtab: fetched where its server answers, else as it says then; * always by hand (docs/vtab.md)"]
    for source in SOURCES.values():
        tasks = ", ".join(task.name for task in tasks_of(source.builder))
        sizes = [file.bytes for file in source.files if file.bytes]
        total = f"{sum(sizes):,} bytes" if sizes and not source.by_hand else "unpacked"
        lines.append(f"  {tasks}{'*' if source.by_hand else ''}: {len(source.files)} files, {total}, {source.page}")
    return "\n".join(lines)


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
    from src.config.lists import parse_sweep

    return list(itertools.product(*map(parse_sweep, rest)))


def check(arguments: Sequence[str]) -> None:
    """Raise UserError for what cannot be, before hours of work on something else begin."""
    data = chosen(arguments)
    if data["name"] == "vtab":
        from src.data.prepare.vtab import sources_of

        if data["task"] is None:
            raise UserError("which task? give data.task=, such as dtd, or all")
        sources_of([data["task"]])


def one(arguments: Sequence[str]) -> int:
    """Prepare one data set, or tasks of VTAB, and print what is there; the exit code."""
    data = chosen(arguments)
    if data["name"] == "vtab":
        return vtab(data)
    from src.data.prepare.fgvc import prepare

    archives = Path(data["archives"]) if data["archives"] else None
    found = prepare(data["name"], Path(data["root"]), archives, official=data["official"], subset=data["subset"])
    show(data["name"], found)
    print(shlex.join(["python", "-m", "src.train", "experiment=fgvc/toast", *train_arguments(data)]))
    return 0


def vtab(data: dict[str, Any]) -> int:
    """Prepare one task of VTAB-1k, or all; 2 if any could not be."""
    from src.data.prepare.vtab import prepare

    root, archives = Path(data["root"]), Path(data["archives"]) if data["archives"] else None
    missing = []
    for source, manifest, built in prepare([data["task"]], root, archives, official=data["official"]):
        if manifest is None:
            missing.append(source.builder)
        else:
            show_source(root / source.builder, manifest, built)
    if missing:
        print(f"not prepared: {', '.join(missing)}", file=sys.stderr)
        return 2
    task = "dtd" if data["task"] == "all" else data["task"]
    words = [f"data.task={task}", f"data.root={root}", *([] if data["official"] else ["data.official=false"])]
    print(shlex.join(["python", "-m", "src.train", "experiment=vtab/toast", *words]))
    return 0


def show_source(folder: Path, manifest: "Manifest", built: bool) -> None:
    """Print what a prepared source of VTAB holds."""
    from rich.console import Console

    from src.data.vtab.pack import is_proved

    sizes = ", ".join(f"{split} {count:,}" for split, count in manifest.splits.items())
    total = sum(file["bytes"] for file in manifest.files.values())
    state = "prepared" if built else "was prepared already, and is whole"
    proof = "VTAB's examples" if is_proved(manifest) else "examples that cannot be proved"
    proof += "" if manifest.official else ", not official"
    text = f"{', '.join(manifest.tasks)} {state}: {folder}\n  {sizes}; {total / 1e6:,.1f} MB; {proof}"
    Console(highlight=False).print(text, markup=False, soft_wrap=True)


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
        if node.get("name") not in (*DOWNLOADS, "vtab"):
            raise UserError(f"there is nothing to prepare for this data set; give one of {SETS}")
        keys = ("name", "root", "archives", "official", "subset", "task")
        data = {key: node.get(key) for key in keys}
    found: dict[str, Any] = put_back(data, paths)
    found["official"] = True if found["official"] is None else found["official"]
    found["subset"] = bool(found["subset"]) if found["subset"] is None else found["subset"]
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

"""From the downloaded archives of an FGVC data set to a folder with the published counts."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.data.fgvc import ARCHIVES, Fgvc, find_root
from src.data.prepare.archives import DOWNLOADS, Download, fetch
from src.data.prepare.checksums import check_size, check_sum
from src.data.prepare.claimed import claimed
from src.data.prepare.progress import say
from src.data.prepare.unpack import Partial, sentences
from src.data.table import Table
from src.records import UserError, atomic, write_text

MARKS = ".prepared.json"
"""In a data set's folder: the sha256 of every download that has been unpacked there, by its name."""


@dataclass(frozen=True)
class Prepared:
    """A data set that can be trained on: where it lies, what it holds, and whether anything had to be done."""

    folder: Path
    table: Table
    changed: bool


@dataclass(frozen=True)
class Step:
    """A download that is there and not unpacked."""

    download: Download
    path: Path

    def in_place(self, target: Path) -> bool:
        """Whether it is a file that is needed as it is, and is where it belongs."""
        return not self.download.is_archive and target.is_dir() and self.path.parent.samefile(target)


def prepare(
    name: str, root: Path, archives: Path | None = None, official: bool = True, subset: bool = False
) -> Prepared:
    """Check and unpack what has been downloaded of a data set, and count what is there.

    The data set's folder is `root` if it has that name or parts of the data set, else a folder in it. What is whole is
    read and left alone; nothing is written then.

    name: a key of DOWNLOADS. archives: where the downloads lie, beside `root` and its parent. official: refuse other
    files than the published ones; else warn. subset: accept missing images. Raises UserError for what is missing,
    wrong, or being prepared by another process.
    """
    if archives is not None and not archives.is_dir():
        raise UserError(f"data.archives={archives} is no folder; give the one that the downloads lie in")
    target = home(name, root)
    places = [*([archives] if archives else []), root, target, root.parent]
    steps = plan(name, root, target, places, subset)
    for step in steps:
        with sentences(step.path, target):
            check_size(step.path, step.download, official)
    if steps or (partials(name, target) and os.access(target, os.W_OK)):
        with claimed(target):
            # Another process may have prepared it since.
            steps = plan(name, root, target, places, subset)
            for step in steps:
                take(name, step, target, official)
            for stale in partials(name, target):
                shutil.rmtree(stale)
    return Prepared(target, Fgvc(name, str(root), subset=subset).table, bool(steps))


def home(name: str, root: Path) -> Path:
    """The data set's folder: where its lists are, else its other parts, else where it would be looked for."""
    archive = ARCHIVES[name]
    try:
        return find_root(root, archive)
    except UserError:
        parts = [part for download in DOWNLOADS[name] for part in download.makes if not part.startswith("..")]
        for place in (root, root / archive.folder):
            if any((place / part).exists() for part in parts):
                return place
    return root if root.name == archive.folder else root / archive.folder


def plan(name: str, root: Path, target: Path, places: list[Path], subset: bool) -> list[Step]:
    """What is to be unpacked. Raises UserError naming what would be, and is not there."""
    done = reads(name, root, subset=False)
    steps, missing = look(name, target, places, set(read_marks(target)), done)
    if missing and not (subset and reads(name, root, subset)):
        raise UserError(
            f"{target} is not whole; put into {target.parent}, or into a folder that you give as data.archives=, what "
            f"is missing: {fetch(missing)}"
        )
    if all(step.in_place(target) for step in steps) and not done and not subset:
        # Something has been deleted since: nothing that was unpacked earlier counts.
        steps, _ = look(name, target, places, set(), done)
    # A file that is where it belongs is only worth a look before something is made of the others.
    return [] if all(step.in_place(target) for step in steps) else steps


def look(name: str, target: Path, places: list[Path], marks: set[str], done: bool) -> tuple[list[Step], list[Download]]:
    """The downloads to unpack and the missing ones. marks: names of those unpacked. done: needed ones all are."""
    found = {download.name: download.find(places) for download in DOWNLOADS[name]}
    steps: list[Step] = []
    missing: list[Download] = []
    for download in wanted(DOWNLOADS[name], target, {key for key, path in found.items() if path}):
        path, made = found[download.name], is_made(download, target)
        if made and (done or path is None or download.name in marks):
            continue
        if path is not None and (download.use or not done):
            steps.append(Step(download, path))
        elif path is None and not download.use and not done:
            missing.append(download)
    return steps, missing


def wanted(downloads: Sequence[Download], target: Path, found: set[str]) -> list[Download]:
    """The downloads, with those that replace others only where these are not all there and the former are."""
    there = {one.name for one in downloads if one.name in found or is_made(one, target)}
    substitutes = {one.name for one in downloads if one.replaces}
    replaced = {name for one in downloads for name in one.replaces}
    dropped = replaced if substitutes and substitutes <= there and not replaced <= there else substitutes
    return [one for one in downloads if one.name not in dropped]


def is_made(download: Download, target: Path) -> bool:
    """Whether something of the download is in place."""
    return any((target / path).exists() for path in download.makes)


def reads(name: str, root: Path, subset: bool) -> bool:
    """Whether what training needs is there: every image, or with subset=True some."""
    try:
        return bool(Fgvc(name, str(root), subset=subset).table.splits)
    except UserError:
        return False


def partials(name: str, target: Path) -> list[Path]:
    """What killed processes have left of unpacking."""
    names = [name for download in DOWNLOADS[name] for name in download.names()]
    return [path for name in names for path in target.glob(f".{name}.*.partial")]


def read_marks(target: Path) -> dict[str, str]:
    """The sha256 of what has been unpacked, by name; nothing from a file that cannot be read."""
    try:
        marks = json.loads((target / MARKS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return marks if isinstance(marks, dict) else {}


def take(name: str, step: Step, target: Path, official: bool) -> None:
    """Check one download and bring what is in it into place. Raises UserError."""
    path, archive = step.path, ARCHIVES[name]
    with sentences(path, target):
        sha256 = check_sum(path, step.download, official)
        if step.in_place(target):
            return
        partial = Partial(path, target, sha256)
        for stale in set(partials(name, target)) - {partial.folder}:
            shutil.rmtree(stale)
        if step.download.is_archive:
            partial.extract(archive.folder, step.download.makes)
            partial.move([marker.partition("/")[0] for marker in archive.markers])
        else:
            with open(path, "rb") as source, atomic(target / path.name) as sink:
                shutil.copyfileobj(source, sink)
        write_text(target / MARKS, json.dumps(read_marks(target) | {step.download.name: sha256}, indent=2) + "\n")
        partial.remove()
    say(f"{path.name} is in place")

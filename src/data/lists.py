"""What readers of the original archives' lists share: the lists as read, text and Matlab files, held-out names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from src.data.image_files import Items
from src.records import UserError


@dataclass(frozen=True)
class Listed:
    """A data set's own lists, with the images that its published split takes from training for validation."""

    classes: Sequence[str]
    """Names by class index."""
    train: Items
    val: Items
    test: Items
    marks: Sequence[str] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    """Where an image lies that is not at its name."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names of images by what other lists call them."""


def held_out(name: str, folder: str) -> set[str]:
    """The training images, named from the root, that validate in the published split (src/data/splits/<name>.txt)."""
    lines = (files("src.data") / "splits" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return {f"{folder}/{line}" for line in lines if line and not line.startswith("#")}


def divide(items: Items, chosen: set[str]) -> tuple[Items, Items]:
    """The items that are not chosen, and those that are."""
    return [item for item in items if item[0] not in chosen], [item for item in items if item[0] in chosen]


def find_file(root: Path, name: str, folders: Sequence[str], archive: str) -> Path:
    """The file in the first of the folders that has it. Raises UserError naming the archive that it comes in."""
    for folder in folders:
        if (root / folder / name).is_file():
            return root / folder / name
    raise UserError(f"{name} is missing below {root}; it comes with {archive}, unpack that there")


def find_folder(root: Path, *places: str) -> str:
    """The first of the places below the root that is a folder, else the last one."""
    return next((place for place in places if (root / place).is_dir()), places[-1])


def moved(names: Iterable[str], folder: str, place: str) -> dict[str, str]:
    """Where images named `folder/...` lie if the folder is at `place`; nothing if it is where it says."""
    return {} if folder == place else {name: f"{place}{name.removeprefix(folder)}" for name in names}


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Lines `key rest`. Raises UserError for a missing file or a line of another shape."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path} is missing; unpack the archive again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); unpack the archive again") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        key, _, rest = line.strip().partition(" ")
        if key and not rest:
            raise UserError(f"{path}, line {number}: expected two columns, found {line!r}")
        if key:
            pairs.append((key, rest.strip()))
    return pairs


def read_numbers(path: Path) -> dict[str, int]:
    """Lines `key number` by key. Raises UserError as `read_pairs`, and for what is no whole number."""
    pairs = read_pairs(path)
    try:
        return {key: int(number) for key, number in pairs}
    except ValueError as error:
        raise UserError(f"{path} has something else than a number in its second column ({error})") from error


def read_mat(path: Path, *names: str) -> list[NDArray[Any]]:
    """The named one-dimensional arrays of a Matlab file. Raises UserError for one that lacks them or cannot be read."""
    try:
        content = loadmat(path, squeeze_me=True)
    except Exception as error:  # SciPy raises whatever the bytes make its readers raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read ({reason}); unpack its archive again") from error
    missing = [name for name in names if name not in content]
    if missing:
        raise UserError(f"{path} has no {missing[0]}; is it another file under that name?")
    return [np.atleast_1d(content[name]) for name in names]

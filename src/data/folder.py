"""A user's own pictures: a folder a class, split by the folders above them or by the pictures' names."""

import hashlib
import logging
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from src.data.image_files import ImageFiles
from src.data.module import ImageData
from src.data.table import SPLITS, Images, Table
from src.data.transforms import CropTransform
from src.data.walk import Sizes, Walk, printable, some
from src.records import UserError

SPLIT_FOLDERS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Names of folders, in small letters, that stand for a split where there is one to train on."""
log = logging.getLogger("src")
Found = dict[str, dict[str, Sizes]]
"""Pictures by split and class."""


class Folder(ImageData):
    """Pictures in class folders, those in `train`, `val` and `test` folders or not: then names decide the split.

    root: the folder. val_share, test_share: how much of each class is held out where there is no folder for it, to the
    nearest picture and never all; which pictures these are depends on the names in the class alone. Classes are known
    by name. common: what every data module takes, see ImageData. Raises UserError for fewer than two classes, a class
    that is not trained on, and a folder that cannot be read.
    """

    upright = True

    def __init__(self, root: str, *, val_share: float = 0.1, test_share: float = 0.2, **common: Any) -> None:
        super().__init__(**common)
        if min(val_share, test_share) < 0 or val_share + test_share >= 1:
            raise UserError(
                f"data.val_share={val_share} and data.test_share={test_share} cannot be; give shares from 0 on, "
                "together below 1"
            )
        self.root = Path(root)
        self.shares = {"val": val_share, "test": test_share}

    def transform(self) -> CropTransform:
        return CropTransform(self.image_size)

    def read(self) -> Table:
        walk = Walk(self.root)
        found: Found = {split: walk.classes(folder) for split, folder in split_folders(walk).items()}
        check_classes(walk, found)
        classes = sorted(found["train"])
        shares = {split: share for split, share in self.shares.items() if not found.get(split)}
        parts = {name: hold_out(found["train"][name], shares) for name in classes}
        found |= {split: {name: parts[name][split] for name in classes} for split in ("train", *shares)}
        whole = [name for name in classes if any(shares.values()) and not any(parts[name][s] for s in shares)]
        twins = shared(self.root, found)
        tell(walk, classes, whole, twins)
        marks = ["own split"] if any(shares.values()) else []
        return Table(
            classes,
            {split: self.images(found[split], classes) for split in SPLITS},
            official=False,
            marks=[*marks, "image in two splits"] if twins else marks,
            content=digest(found),
        )

    def images(self, pictures: dict[str, Sizes], classes: list[str]) -> Images:
        """One split's pictures by class, as images of those classes."""
        label = {name: index for index, name in enumerate(classes)}
        paths = [(path, label[name]) for name, sizes in pictures.items() for path in sizes]
        items = [(printable(path), index) for path, index in paths]
        return ImageFiles(self.root, items, self.upright, {printable(path): path for path, _ in paths})


def digest(found: Found) -> str:
    """sha256 over the pictures' sizes, by which a picture that was replaced is noticed without reading it."""
    sizes = [str(size) for split in SPLITS for pictures in found[split].values() for size in pictures.values()]
    return hashlib.sha256(" ".join(sizes).encode()).hexdigest()


def split_folders(walk: Walk) -> dict[str, str]:
    """The folder of each split, from the root; the root itself to train on if it has class folders and no splits.

    Raises UserError for a split twice, and for split folders that hold no class folders.
    """
    folders, _ = walk.entries("")
    splits = {path: SPLIT_FOLDERS[path.lower()] for path in folders if path.lower() in SPLIT_FOLDERS}
    train = [path for path, split in splits.items() if split == "train"]
    only = 0 < len(splits) == len(folders)
    # Among class folders alone, `train` is a class: of trains.
    if not train or not walk.entries(train[0])[0] or not (only or len(splits) > 1):
        if only:
            lacks = "no class folders in train" if train else "no folder train"
            raise UserError(
                f"data.root={walk.root} has {', '.join(splits)}, but {lacks}; it needs train/<class>/<picture>"
            )
        return {"train": ""}
    if len(set(splits.values())) < len(splits):
        raise UserError(f"data.root={walk.root} has {', '.join(splits)}, two of them for one split; keep one")
    walk.skipped["folders beside the splits"].update(set(folders) - splits.keys())
    return {split: path for path, split in splits.items()}


def check_classes(walk: Walk, found: Found) -> None:
    """Raise UserError for fewer than two classes, and for one that is held out but not trained on."""
    classes = found["train"]
    if len(classes) < 2:
        has = f"pictures of one class only, {next(iter(classes))}" if classes else "no pictures in class folders"
        inside = f"; if its folders are the classes, give {walk.root / next(iter(classes))}" if classes else ""
        raise UserError(f"data.root={walk.root} has {has}; it needs two or more folders, one a class{inside}")
    for split, held in found.items():
        unknown = sorted(held.keys() - classes.keys())
        if unknown:
            raise UserError(
                f"data.root={walk.root} has {some(unknown)} in {split} but not in train; classes go by name, "
                "give the folders the same names"
            )


def shared(root: Path, found: Found) -> list[str]:
    """Pictures that lie, byte for byte, in another split too. Only those of one size are read."""
    splits: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for split, classes in found.items():
        for pictures in classes.values():
            for path, size in pictures.items():
                splits[size][split].append(path)
    twins: list[str] = []
    for same_size in splits.values():
        if len(same_size) < 2:
            continue
        first: dict[str, str] = {}
        for split, paths in same_size.items():
            for path in paths:
                with open(root / path, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                if first.setdefault(content, split) != split:
                    twins.append(path)
    return twins


def hold_out(pictures: Sizes, shares: dict[str, float]) -> dict[str, Sizes]:
    """One class's pictures by split: to each split its share, to the nearest picture, and at least one to train on."""
    # A hash of the name decides: not how a disk lists files, and not their numbers, which often follow day and scene.
    order = sorted(pictures, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())
    parts: dict[str, Sizes] = {}
    start = 0
    for split, share in shares.items():
        stop = min(start + int(len(order) * share + 0.5), len(order) - 1)
        parts[split] = {path: pictures[path] for path in sorted(order[start:stop])}
        start = stop
    return parts | {"train": {path: pictures[path] for path in sorted(order[start:])}}


def tell(walk: Walk, classes: list[str], whole: list[str], twins: list[str]) -> None:
    """Say in one line what was skipped, and what makes classes or splits other than they may be meant to be.

    whole: classes with too few pictures to hold any out. twins: pictures that lie in another split too.
    """
    said = [f"skipped {skipped}"] if (skipped := walk.report()) else []
    if whole:
        said.append(f"too few pictures to hold any out, all train: {some(whole)}")
    alike = [name for name in classes if sum(name.lower() == other.lower() for other in classes) > 1]
    if alike:
        said.append(f"classes whose names differ in case only: {some(alike)}")
    if twins:
        said.append(f"the same picture is in another split too: {some(twins)}; accuracy there proves little")
    if said:
        log.warning(f"data.root={walk.root}: {'; '.join(said)}")

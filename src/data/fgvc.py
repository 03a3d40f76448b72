"""The FGVC data sets with their published splits, from their original archives."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from src.data.cars import DEVKIT, read_cars
from src.data.cub import CubImages
from src.data.image_files import ImageFiles, existing
from src.data.lists import Listed
from src.data.membership import follow_json
from src.data.module import ImageData
from src.data.readers import read_cub, read_dogs, read_flowers, read_nabirds
from src.data.table import Table
from src.data.transforms import CropTransform
from src.records import UserError


@dataclass(frozen=True)
class Archive:
    """What is known of one data set: how to read it, what to fetch, and the published counts."""

    read: Callable[[Path], Listed]
    folder: str
    """What the archive's own folder, or else the data set's, is called."""
    fetch: str
    markers: tuple[str, ...]
    """Files any of which a root has."""
    classes: int
    counts: dict[str, int]
    digest: str
    """sha256 of the official lists, see `digest_of`."""
    images: str = ""
    """What VPT's lists leave out before their names."""
    instead: tuple[str, str] = ("", "")
    """A folder in which a mirror has the images, and what is to be fetched beside it."""
    files: type[ImageFiles] = ImageFiles


class Fgvc(ImageData):
    """One FGVC data set with the published train, val and test membership.

    Membership comes from VPT's `train.json`, `val.json` and `test.json` in the root; without them from the committed
    validation lists, which are the same, but for Cars (`own split`, see `read_cars`).

    name: a key of ARCHIVES. root: the unpacked folder, or one that it lies in. subset: use the listed images that are
    there, keep the full class table, and let the record say `official: false`; else a missing image is an error.
    common: what every data module takes, see ImageData.
    """

    def __init__(self, name: str, root: str, *, subset: bool = False, **common: Any) -> None:
        super().__init__(**common)
        if name not in ARCHIVES:
            raise UserError(f"data.name is {name!r}; it is one of {', '.join(ARCHIVES)}")
        self.dataset = name
        self.root = Path(root)
        self.subset = subset

    def transform(self) -> CropTransform:
        return CropTransform(self.image_size)

    def read(self) -> Table:
        archive = ARCHIVES[self.dataset]
        root = find_root(self.root, archive)
        listed = read_lists(root, archive, self.subset)
        splits = {"train": listed.train, "val": listed.val, "test": listed.test}
        places = {name: listed.places.get(name, name) for items in splits.values() for name, _ in items}
        there = existing(root, places.values())
        missing = [name for name, place in places.items() if place not in there]
        if missing and not self.subset:
            raise UserError(
                f"{len(missing)} of the {len(places)} listed images are missing below {root}, {places[missing[0]]} for "
                f"one; unpack {archive.fetch} again, or use what is there with data.subset=true"
            )
        lost = set(missing)
        return Table(
            listed.classes,
            {
                split: archive.files(root, [item for item in items if item[0] not in lost], places=places)
                for split, items in splits.items()
            },
            official=not missing and "other lists" not in listed.marks,
            marks=list(listed.marks),
        )


def find_root(root: Path, archive: Archive) -> Path:
    """The unpacked folder: `root` itself, or the archive's own folder in it or in a folder of it."""
    try:
        below = sorted(root.glob(f"*/{archive.folder}"))
    except OSError as error:
        raise UserError(f"data.root={root} cannot be read ({error}); check its permissions") from error
    for place in (root, root / archive.folder, *below):
        if any((place / marker).is_file() for marker in archive.markers):
            return place
    reason = f"has no {archive.markers[0]}" if root.is_dir() else "does not exist"
    folder, beside = archive.instead
    fetch = beside if folder and (root / folder).is_dir() else archive.fetch
    raise UserError(
        f"data.root={root} {reason}; fetch {fetch}, unpack it, and give the folder as data.root=..., "
        f"or its parent as paths.data=...; `make demo` needs no data"
    )


def digest_of(listed: Listed) -> str:
    """sha256 of the official lists: sorted lines `train|test name label`, joined by newlines; val is part of train."""
    training = [f"train {name} {label}" for name, label in [*listed.train, *listed.val]]
    test = [f"test {name} {label}" for name, label in listed.test]
    return hashlib.sha256("\n".join(sorted(training + test)).encode()).hexdigest()


def read_lists(root: Path, archive: Archive, subset: bool = False) -> Listed:
    """A data set's lists with its membership. Raises UserError if they are not the published ones.

    subset: let lists pass that differ from the published ones in more than numbers, with the mark `other lists`.
    """
    own = archive.read(root)
    listed = follow_json(root, own, archive.images)
    if len(listed.classes) != archive.classes:
        raise UserError(
            f"{root} lists {len(listed.classes)} classes instead of {archive.classes}; is it another version?"
        )
    counts = {"train": len(listed.train), "val": len(listed.val), "test": len(listed.test)}
    if counts != archive.counts:
        raise UserError(
            f"{root} lists {counts} images, the published split has {archive.counts}; is it another version?"
        )
    if digest_of(own) != archive.digest:
        if not subset:
            raise UserError(
                f"the lists in {root} have the published numbers, but other names, labels or splits than the published "
                "ones; unpack them again, or use them as they are with data.subset=true"
            )
        listed = replace(listed, marks=[*listed.marks, "other lists"])
    return listed


ARCHIVES = {
    "cub": Archive(
        read=read_cub,
        folder="CUB_200_2011",
        fetch="CUB_200_2011.tgz (1.15 GB, CaltechDATA record 65de6-vp158)",
        markers=("images.txt",),
        classes=200,
        counts={"train": 5394, "val": 600, "test": 5794},
        digest="2bb0cf37c988f475f87dcc7a9c0b224dfa40ce8d9fc093e9d0dd13750e05d8e5",
        images="images/",
        files=CubImages,
    ),
    "nabirds": Archive(
        read=read_nabirds,
        folder="nabirds",
        fetch="nabirds.tar.gz (behind a form at dl.allaboutbirds.org/nabirds)",
        markers=("images.txt",),
        classes=555,
        counts={"train": 21536, "val": 2393, "test": 24633},
        digest="68bb47a4aaa02f9ce559b9c2925d292c432d64331d1c9d4200078733d2d7ba1c",
        images="images/",
    ),
    "flowers": Archive(
        read=read_flowers,
        folder="oxford_flowers",
        fetch="102flowers.tgz (0.34 GB), imagelabels.mat and setid.mat (robots.ox.ac.uk/~vgg/data/flowers/102)",
        markers=("setid.mat",),
        classes=102,
        counts={"train": 1020, "val": 1020, "test": 6149},
        digest="0c44fbda6f7d0eaf13763fa52edb2f95ec93c4fc7b02ebdac4168dfead91dc0a",
    ),
    "dogs": Archive(
        read=read_dogs,
        folder="stanford_dogs",
        fetch="images.tar (0.79 GB) and lists.tar (vision.stanford.edu/aditya86/ImageNetDogs)",
        markers=("train_list.mat", "lists/train_list.mat"),
        classes=120,
        counts={"train": 10800, "val": 1200, "test": 8580},
        digest="f83201feb8d34453b50bc944a01fa6a6ee5722780a4056707f718ede12155076",
        images="Images/",
    ),
    "cars": Archive(
        read=read_cars,
        folder="stanford_cars",
        fetch="cars_train.tgz, cars_test.tgz (0.98 GB each), car_devkit.tgz and cars_test_annos_withlabels.mat",
        markers=tuple(f"{folder}/cars_train_annos.mat".lstrip("/") for folder in DEVKIT),
        classes=196,
        counts={"train": 7329, "val": 815, "test": 8041},
        digest="7c848d23595ebb8d43cbda809d07213ab1e37f3c61f6bbb5234cf57e4d4f4ea5",
        instead=("car_ims", "car_devkit.tgz and cars_test_annos_withlabels.mat, and cars_annos.mat beside car_ims"),
    ),
}

"""The FGVC data sets, read from their original archives' layouts."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import Tensor

from src.data.images import read_image
from src.data.module import ImageData, Images, Table
from src.data.transforms import CropTransform
from src.records import UserError


@dataclass(frozen=True)
class Listed:
    """A data set's own lists: classes, and (path from root, class index) of its official training and test images."""

    classes: list[str]
    train: list[tuple[str, int]]
    test: list[tuple[str, int]]


@dataclass(frozen=True)
class Archive:
    """What is known of one data set: how to read it, what to fetch, and the published counts."""

    read: Callable[[Path], Listed]
    folder: str
    fetch: str
    marker: str
    images: str
    """Folder of the images within the root; the validation list's names count from there."""
    counts: dict[str, int]


class ImageFiles(Images):
    """Images as files below a folder."""

    def __init__(self, root: Path, items: list[tuple[str, int]], upright: bool = False) -> None:
        self.root = root
        self.names = [name for name, _ in items]
        self.labels = [label for _, label in items]
        self.upright = upright

    def pixels(self, example: int) -> Tensor:
        return read_image(self.root / self.names[example], self.upright)


class Fgvc(ImageData):
    """One FGVC data set with the published train, val and test membership.

    name: a key of ARCHIVES. root: the unpacked folder, or the one it lies in. subset: use the listed images that are
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
        listed = archive.read(root)
        chosen = validation_names(self.dataset, archive)
        splits = {
            "train": [item for item in listed.train if item[0] not in chosen],
            "val": [item for item in listed.train if item[0] in chosen],
            "test": listed.test,
        }
        counts = {split: len(items) for split, items in splits.items()}
        if counts != archive.counts:
            raise UserError(
                f"{root} lists {counts} images, the published split has {archive.counts}; is it another version?"
            )
        present = {split: [item for item in items if (root / item[0]).is_file()] for split, items in splits.items()}
        missing = sum(counts.values()) - sum(len(items) for items in present.values())
        if missing and not self.subset:
            first = next(name for items in splits.values() for name, _ in items if not (root / name).is_file())
            raise UserError(
                f"{missing} of the {sum(counts.values())} listed images are missing below {root}, {first} for one; "
                f"unpack {archive.fetch} again, or use what is there with data.subset=true"
            )
        return Table(
            listed.classes, {split: ImageFiles(root, items) for split, items in present.items()}, official=not missing
        )


def find_root(root: Path, archive: Archive) -> Path:
    """The unpacked folder: `root` itself, or the archive's own folder in it."""
    for place in (root, root / archive.folder):
        if (place / archive.marker).is_file():
            return place
    reason = f"has no {archive.marker}" if root.is_dir() else "does not exist"
    raise UserError(
        f"data.root={root} {reason}; fetch {archive.fetch}, unpack it, and give the folder as data.root=..., "
        f"or its parent as paths.data=...; `make demo` needs no data"
    )


def validation_names(name: str, archive: Archive) -> set[str]:
    """The images, counted from the root, that the published split takes from training for validation."""
    lines = (files("src.data") / "splits" / f"{name}.txt").read_text().splitlines()
    return {f"{archive.images}/{line}" for line in lines if line and not line.startswith("#")}


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


def read_cub(root: Path) -> Listed:
    """CUB-200-2011: `images.txt`, `image_class_labels.txt` (from 1), `train_test_split.txt` (1 is training)."""
    classes = [name.partition(".")[2] or name for _, name in read_pairs(root / "classes.txt")]
    paths = dict(read_pairs(root / "images.txt"))
    labels = dict(read_pairs(root / "image_class_labels.txt"))
    flags = dict(read_pairs(root / "train_test_split.txt"))
    if not paths.keys() == labels.keys() == flags.keys():
        raise UserError(f"{root}: images.txt, image_class_labels.txt and train_test_split.txt list different images")
    train: list[tuple[str, int]] = []
    test: list[tuple[str, int]] = []
    for key, path in paths.items():
        (train if flags[key] == "1" else test).append((f"images/{path}", int(labels[key]) - 1))
    return Listed(classes, train, test)


ARCHIVES = {
    "cub": Archive(
        read=read_cub,
        folder="CUB_200_2011",
        fetch="CUB_200_2011.tgz (1.15 GB, CaltechDATA record 65de6-vp158)",
        marker="images.txt",
        images="images",
        counts={"train": 5394, "val": 600, "test": 5794},
    ),
}

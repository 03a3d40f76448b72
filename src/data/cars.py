"""Stanford Cars: the original archives, the folders that mirrors make of them, and a validation split by rule."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from src.data.image_files import Items
from src.data.lists import Listed, divide, find_file, find_folder, moved, read_mat
from src.records import UserError

DEVKIT = ("devkit", "car_devkit/devkit", "")
LABELLED = "cars_test_annos_withlabels.mat"
BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
Key = tuple[int, ...]
"""What an image is known by in either numbering: class (from 1), box, and 1 for a test image."""


def read_cars(root: Path) -> Listed:
    """Stanford Cars: devkit, labelled test file, and images in `cars_train` and `cars_test` or all in `car_ims`.

    An image is named `cars_train/00001.jpg` wherever it lies. `car_ims` numbers them otherwise, with six digits;
    `cars_annos.mat` joins the two by class and box. VPT's validation list is lost: without their json files the split
    is drawn by `own_split`, with the mark `own split`. Raises UserError for what is missing or does not fit together.
    """
    (classes,) = read_mat(find_file(root, "cars_meta.mat", DEVKIT, "car_devkit.tgz"), "class_names")
    table = find_file(root, "cars_train_annos.mat", DEVKIT, "car_devkit.tgz")
    labelled = find_file(root, LABELLED, ("", *DEVKIT), f"{LABELLED}, a download of its own")
    train, test = read_annotations(table, "cars_train", 0), read_annotations(labelled, "cars_test", 1)
    kept, val = divide(items(train), own_split(items(train)))
    numbers = join(root, train | test)
    return Listed(
        [str(name) for name in classes],
        kept,
        val,
        items(test),
        marks=["own split"],
        places=places(root, "cars_train", train, numbers) | places(root, "cars_test", test, numbers),
        aliases={number: name for name, number in numbers.items()}
        | {f"{name.partition('/')[0]}/{name}": name for name in train | test},
    )


def read_annotations(path: Path, folder: str, test: int | None = None) -> dict[str, Key]:
    """The key of every image by name, in file order; names get `folder` before them.

    test: 1 or 0 for a table of test or of training images, None for one that says it of each. Raises UserError for a
    table without classes, or another one.
    """
    (table,) = read_mat(path, "annotations")
    name = "fname" if test is not None else "relative_im_path"
    fields = ("class", *BOX) if test is not None else ("class", *BOX, "test")
    missing = sorted({name, *fields} - set(table.dtype.names or ()))
    if missing:
        raise UserError(f"{path} has no {missing[0]} in its annotations; fetch the file of that name again")
    names = [f"{folder}/{str(entry).rpartition('/')[2]}" for entry in table[name]]
    rows = [tuple(map(int, row)) for row in zip(*(table[entry] for entry in fields), strict=True)]
    return {name: row if test is None else (*row, test) for name, row in zip(names, rows, strict=True)}


def items(keys: dict[str, Key]) -> Items:
    """Names with class indices (from 0)."""
    return [(name, key[0] - 1) for name, key in keys.items()]


def join(root: Path, keys: dict[str, Key]) -> dict[str, str]:
    """The name in `car_ims` of every image, from `cars_annos.mat`; nothing without that file.

    Two test images (07308 and 07703) share class and box; they take their numbers in order, which at worst exchanges
    two pictures of one class. Raises UserError if the file lists other images than the devkit.
    """
    path = next((path for folder in DEVKIT if (path := root / folder / "cars_annos.mat").is_file()), None)
    if path is None:
        return {}
    numbers: dict[Key, list[str]] = defaultdict(list)
    for number, key in read_annotations(path, "car_ims").items():
        numbers[key].append(number)
    try:
        return {name: numbers[key].pop(0) for name, key in keys.items()}
    except IndexError:
        raise UserError(f"{path} and the devkit list different images; fetch both again") from None


def places(root: Path, folder: str, names: Iterable[str], numbers: dict[str, str]) -> dict[str, str]:
    """Where an archive's images lie: in its folder, in one of that name within, or among all in `car_ims`."""
    if numbers and not (root / folder).is_dir():
        return {name: numbers[name] for name in names}
    place = find_folder(root, f"{folder}/{folder}", folder)
    names = list(names)
    if (root / place / f"{len(names) + 1:05d}.jpg").exists():
        raise UserError(
            f"{root / place} holds more images than the {len(names):,} of its list; is it the other archive's folder "
            "under this name?"
        )
    return moved(names, folder, place)


def own_split(training: Items, seed: int = 42) -> set[str]:
    """The validation images: a tenth, rounded up, to each class its share by largest remainder.

    training: every training image in the devkit's order. What scikit-learn's stratified `train_test_split` takes with
    test_size=0.1 and random_state=42: the split of savadikarc/gift, not VPT's. NumPy never changes what its legacy
    generator draws.
    """
    random = np.random.RandomState(seed)
    labels = np.array([label for _, label in training])
    classes, counts = np.unique(labels, return_counts=True)
    size = len(labels) - -(-len(labels) // 10)
    share = counts / len(labels) * size
    quota = np.floor(share).astype(int)
    remainder = share - quota
    missing = size - quota.sum()
    for value in np.unique(remainder)[::-1]:
        if missing == 0:
            break
        tied = np.flatnonzero(remainder == value)
        receivers = random.choice(tied, size=min(len(tied), missing), replace=False)
        quota[receivers] += 1
        missing -= len(receivers)
    chosen: set[str] = set()
    for label, count, kept in zip(classes, counts, quota, strict=True):
        positions = np.flatnonzero(labels == label)[random.permutation(count)]
        chosen |= {training[position][0] for position in positions[kept:]}
    return chosen

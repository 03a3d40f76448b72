"""The lists of NABirds, Flowers, Dogs and Cars in their archives' layouts: official sizes, invented names."""

import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from src.data.lists import held_out
from tests.cub import picture

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CARS = {"train": 8144, "test": 8041}
LABELLED = "cars_test_annos_withlabels.mat"


def shared(name: str) -> list[Path]:
    """A real data set's folder or file beside the project; nothing where there is none, as in a clone."""
    return [path for path in [SHARED / name] if path.exists()]


def put(root: Path, names: Iterable[str]) -> None:
    """Small pictures under these names, each another one in whichever folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(zlib.crc32(os.fsencode(f"{root.name}/{name}"))).save(path, format="JPEG")


def make_nabirds(root: Path) -> Path:
    """555 classes with images among 1,011, 23,929 training images of which 2,393 are the published val, 24,633 test."""
    val = sorted(name.removeprefix("images/") for name in held_out("nabirds", "images"))
    used = sorted({int(name[:4]) for name in val} | {627, 975})
    train = val + [f"{used[i % 555]:04d}/train{i:05d}.jpg" for i in range(23929 - len(val))]
    test = [f"{used[i % 555]:04d}/test{i:05d}.jpg" for i in range(24633)]
    listed = [(name, 1) for name in train] + [(name, 0) for name in test]
    write_lines(root, "images.txt", (f"k{i} {name}" for i, (name, _) in enumerate(listed)))
    write_lines(root, "image_class_labels.txt", (f"k{i} {int(name[:4])}" for i, (name, _) in enumerate(listed)))
    write_lines(root, "train_test_split.txt", (f"k{i} {flag}" for i, (_, flag) in enumerate(listed)))
    write_lines(root, "classes.txt", (f"{number} Bird number {number} (adult, male)" for number in range(1011)))
    return root


def write_lines(root: Path, name: str, lines: Iterable[str]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join(lines) + "\n")


def make_flowers(root: Path) -> Path:
    """8,189 images of 102 classes, ten of each in train and in val."""
    root.mkdir(parents=True, exist_ok=True)
    labels = np.arange(8189) % 102 + 1
    order = np.argsort(labels, kind="stable")
    rank = np.empty(8189, dtype=int)
    for label in range(1, 103):
        rank[order[labels[order] == label]] = np.arange((labels == label).sum())
    ids = {name: np.flatnonzero(keep) + 1 for name, keep in
           (("trnid", rank < 10), ("valid", (rank >= 10) & (rank < 20)), ("tstid", rank >= 20))}  # fmt: skip
    savemat(root / "imagelabels.mat", {"labels": labels[None].astype(np.uint8)})
    savemat(root / "setid.mat", {name: numbers[None].astype(np.uint16) for name, numbers in ids.items()})
    return root


def make_dogs(root: Path) -> Path:
    """120 breeds, 100 training images each, ten of them the published val, and 8,580 test images."""
    root.mkdir(parents=True, exist_ok=True)
    val = sorted(name.removeprefix("Images/") for name in held_out("dogs", "Images"))
    breeds = sorted({name.partition("/")[0] for name in val})
    train = val + [f"{breeds[i % 120]}/train{i}.jpg" for i in range(12000 - len(val))]
    test = [f"{breeds[i % 120]}/test{i}.jpg" for i in range(8580)]
    for split, names in (("train", train), ("test", test)):
        labels = np.array([[breeds.index(name.partition("/")[0]) + 1] for name in names], dtype=np.uint8)
        savemat(root / f"{split}_list.mat", {"file_list": cells(names).T, "labels": labels})
    return root


def cells(values: Iterable[object]) -> NDArray[np.object_]:
    """A Matlab row of cells."""
    row = list(values)
    array = np.empty((1, len(row)), dtype=object)
    array[0] = row
    return array


def make_cars(root: Path) -> Path:
    """196 classes, 8,144 training and 8,041 test images, and `cars_annos.mat`, which numbers them the other way round.

    As in the real files, a training and a test image share class and box, and so do two test images.
    """
    labels = {split: [i * 5 % 196 + 1 for i in range(count)] for split, count in CARS.items()}
    boxes = {
        "train": [(i, 2, 300 + i, 200) for i in range(CARS["train"])],
        "test": [(i, 3, 9, 9) for i in range(CARS["test"])],
    }
    boxes["test"][196] = boxes["train"][196]
    boxes["test"][2 * 196] = boxes["test"][3 * 196]
    classes = cells(f"Make Model {number}" for number in range(1, 197))
    (root / "devkit").mkdir(parents=True)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": classes})
    for split, path in (("train", "devkit/cars_train_annos.mat"), ("test", LABELLED)):
        names = [f"{i + 1:05d}.jpg" for i in range(CARS[split])]
        savemat(root / path, {"annotations": annotations(boxes[split], labels[split], fname=names)})
    numbered = annotations(
        (boxes["train"] + boxes["test"])[::-1],
        (labels["train"] + labels["test"])[::-1],
        relative_im_path=[f"car_ims/{number:06d}.jpg" for number in range(1, sum(CARS.values()) + 1)],
        test=[1] * CARS["test"] + [0] * CARS["train"],
    )
    savemat(root / "cars_annos.mat", {"annotations": numbered, "class_names": classes})
    return root


def annotations(boxes: Sequence[Sequence[int]], labels: Sequence[int], **more: Sequence[object]) -> NDArray[np.void]:
    """A Matlab row of structures, as the devkit has it."""
    sides = dict(zip(("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"), zip(*boxes, strict=True), strict=True))
    columns: dict[str, Sequence[object]] = {**sides, "class": labels, **more}
    table = np.empty((1, len(boxes)), dtype=[(name, object) for name in columns])
    for name, values in columns.items():
        table[name][0] = values
    return table

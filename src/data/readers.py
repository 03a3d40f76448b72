"""The own lists of CUB, NABirds, Oxford Flowers and Stanford Dogs, in their original archives' layouts."""

from pathlib import Path

from torchvision.datasets import Flowers102

from src.data.image_files import Items
from src.data.lists import Listed, divide, find_file, find_folder, held_out, moved, read_mat, read_numbers, read_pairs
from src.records import UserError


def read_cub(root: Path) -> Listed:
    """CUB-200-2011: `images.txt`, `image_class_labels.txt` (from 1), `train_test_split.txt` (1 is training)."""
    classes = [name.partition(".")[2] or name for _, name in read_pairs(root / "classes.txt")]
    labels = read_numbers(root / "image_class_labels.txt")
    train, test = flagged(root, {key: number - 1 for key, number in labels.items()})
    train, val = divide(train, held_out("cub", "images"))
    return Listed(classes, train, val, test)


def read_nabirds(root: Path) -> Listed:
    """NABirds: CUB's files, with the 555 of 1,011 classes that have images, ranked by their number, as class 0 to 554.

    The authors rank the classes of each split for itself. Their validation list lacks two classes (627 and 975), so
    1,440 of its 2,393 images get another index there than in training: their validation accuracies cannot be compared
    with ours; their test accuracies can (json_dataset.py).
    """
    names = {int(number): name for number, name in read_pairs(root / "classes.txt") if number.isdigit()}
    labels = read_numbers(root / "image_class_labels.txt")
    used = sorted(set(labels.values()))
    unnamed = [number for number in used if number not in names]
    if unnamed:
        raise UserError(f"{root}: image_class_labels.txt has the class {unnamed[0]}, which classes.txt does not name")
    rank = {number: index for index, number in enumerate(used)}
    train, test = flagged(root, {key: rank[number] for key, number in labels.items()})
    train, val = divide(train, held_out("nabirds", "images"))
    return Listed([names[number] for number in used], train, val, test)


def flagged(root: Path, labels: dict[str, int]) -> tuple[Items, Items]:
    """The official training and test images of lists of CUB's kind. labels: class index by image key."""
    paths = dict(read_pairs(root / "images.txt"))
    flags = read_numbers(root / "train_test_split.txt")
    if not paths.keys() == labels.keys() == flags.keys():
        raise UserError(f"{root}: images.txt, image_class_labels.txt and train_test_split.txt list different images")
    train: Items = []
    test: Items = []
    for key, path in paths.items():
        (train if flags[key] == 1 else test).append((f"images/{path}", labels[key]))
    return train, test


def read_flowers(root: Path) -> Listed:
    """Oxford Flowers 102: `imagelabels.mat` (from 1), `setid.mat` with the official train, val and test numbers."""
    (labels,) = read_mat(find_file(root, "imagelabels.mat", [""], "imagelabels.mat beside 102flowers.tgz"), "labels")
    numbers = read_mat(root / "setid.mat", "trnid", "valid", "tstid")
    splits: list[Items] = []
    for ids in numbers:
        if ids.min() < 1 or ids.max() > len(labels):
            raise UserError(f"{root}: setid.mat and imagelabels.mat do not belong together; fetch both again")
        splits.append([(f"jpg/image_{number:05d}.jpg", int(labels[number - 1]) - 1) for number in ids.tolist()])
    train, val, test = splits
    names = [name for name, _ in train + val + test]
    places = moved(names, "jpg", find_folder(root, "102flowers/jpg", "jpg"))
    return Listed(Flowers102.classes, train, val, test, places=places)


def read_dogs(root: Path) -> Listed:
    """Stanford Dogs: `train_list.mat` and `test_list.mat`, whose labels (from 1) rank the breeds' folders."""
    lists = [find_file(root, f"{split}_list.mat", ["", "lists"], "lists.tar") for split in ("train", "test")]
    folders: dict[int, str] = {}
    splits: list[Items] = []
    for path in lists:
        names, labels = read_mat(path, "file_list", "labels")
        if len(names) != len(labels):
            raise UserError(f"{path} has {len(names)} names and {len(labels)} labels; unpack lists.tar again")
        folders |= {int(label): str(name).partition("/")[0] for name, label in zip(names, labels, strict=True)}
        splits.append([(f"Images/{name}", int(label) - 1) for name, label in zip(names, labels, strict=True)])
    classes = [folders[number].partition("-")[2] or folders[number] for number in sorted(folders)]
    training, test = splits
    train, val = divide(training, held_out("dogs", "Images"))
    places = moved([name for name, _ in training + test], "Images", find_folder(root, "images/Images", "Images"))
    return Listed(classes, train, val, test, places=places)

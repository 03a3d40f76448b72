"""A data set as read: its images by split, its classes, and what a record has to say of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from src.records import UserError

SPLITS = ("train", "val", "test")


class Images:
    """The images of one split: their names, their labels, and the pixels on demand."""

    names: Sequence[str]
    labels: Sequence[int]

    def pixels(self, example: int) -> Tensor:
        """uint8 (3, H, W)."""
        raise NotImplementedError


class Joined(Images):
    """The images of several splits, one after the other; of none, an empty split."""

    def __init__(self, *parts: Images) -> None:
        self.names = [name for part in parts for name in part.names]
        self.labels = [label for part in parts for label in part.labels]
        self.places = [(part, example) for part in parts for example in range(len(part.labels))]

    def pixels(self, example: int) -> Tensor:
        part, place = self.places[example]
        return part.pixels(place)


@dataclass(frozen=True)
class Table:
    """A data set as read: its classes, its splits, and what a record has to say of it."""

    classes: Sequence[str]
    splits: dict[str, Images]
    official: bool = False
    marks: list[str] = field(default_factory=list)
    content: str = ""
    """What tells apart images of the same names and labels, where that can happen: a user's own."""
    examples: str = ""
    """sha256 of the names of the images to train and validate on, sorted, where these prove the right ones: VTAB's."""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the classes, every split's names and labels, and the content."""
        digest = hashlib.sha256("\n".join(self.classes).encode(errors="surrogateescape"))
        for split, images in sorted(self.splits.items()):
            for name, label in zip(images.names, images.labels, strict=True):
                digest.update(f"{split}\t{name}\t{label}\n".encode(errors="surrogateescape"))
        digest.update(self.content.encode())
        return digest.hexdigest()


def check_table(table: Table) -> Table:
    """Raise UserError for labels outside the classes, an image in two splits, or nothing to train on."""
    seen: dict[str, str] = {}
    for split, images in table.splits.items():
        for name, label in zip(images.names, images.labels, strict=True):
            if not 0 <= label < len(table.classes):
                raise UserError(f"{name} ({split}) has class index {label}, outside the {len(table.classes)} classes")
            if seen.setdefault(name, split) != split:
                raise UserError(f"{name} is in {seen[name]} and in {split}; an image belongs to one split")
    if not table.splits["train"].labels:
        raise UserError("there is no training image; check data.root and data.subset")
    return table

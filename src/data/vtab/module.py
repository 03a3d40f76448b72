"""VTAB-1k: one of its nineteen tasks, from what `src.prepare` made or from the widely shared copy as JPEG files."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.data.images import UNREADABLE, decode
from src.data.module import ImageData
from src.data.table import Images, Joined, Table
from src.data.transforms import SquashTransform
from src.data.vtab.copy import read_copy
from src.data.vtab.pack import Pack, digest_of
from src.data.vtab.tasks import SOURCES, TRAIN, VAL, Task, find_task, golden
from src.records import UserError


class PackedImages(Images):
    """One split of a prepared source."""

    def __init__(self, pack: Pack, split: str) -> None:
        self.pack = pack
        self.start, stop = pack.bounds(split)
        self.names = pack.keys[self.start : stop]
        self.labels = pack.labels[self.start : stop].tolist()

    def pixels(self, example: int) -> Tensor:
        content, shape = self.pack.content(self.start + example), self.pack.manifest.shape
        if shape is not None:
            return torch.from_numpy(np.array(content)).view(shape).permute(2, 0, 1).expand(3, -1, -1)
        try:
            return decode(content.tobytes(), fast=True)
        except UNREADABLE as error:
            raise UserError(f"the image {self.names[example]} in {self.pack.folder} cannot be decoded") from error


class Vtab(ImageData):
    """One task of VTAB-1k: 800 images to tune with and 200 to choose by, or all 1,000 to train on, and a test split.

    task: a key of TASKS. root: the folder that `python -m src.prepare data=vtab` filled. copy: in its place, the widely
    shared `vtab-1k` folder of JPEG files. stage: `tune` trains on 800 and watches 200; any other trains on the 1,000
    and tests. official: refuse data that are not provably VTAB's; else warn and say so in the record. common: what
    every data module takes but `train_on`, which the stage decides; see ImageData.
    """

    fast_decoding = True

    def __init__(
        self,
        task: str,
        root: str,
        *,
        copy: str | None = None,
        stage: str = "final",
        official: bool = True,
        **common: Any,
    ) -> None:
        if common.get("train_on") is not None:
            raise UserError("data.train_on is not for data=vtab: stage=tune trains on 800 images, stage=final on 1,000")
        super().__init__(**common | {"train_on": "train" if stage == "tune" else "trainval"})
        self.task = find_task(task)
        self.root = Path(root)
        self.copy = Path(copy) if copy else None
        self.tunes = stage == "tune"
        self.official = official
        self.fast_decoding = self.copy is None

    def transform(self) -> SquashTransform:
        return SquashTransform(self.image_size)

    def preprocessing(self) -> dict[str, object]:
        decoder = "JPEG with libjpeg's fast transform, as TensorFlow" if self.fast_decoding else "JPEG as Pillow"
        if self.copy is None and SOURCES[self.task.source].raw:
            decoder = "none: pixels as in the source's arrays"
        # The copy's names are numbers, which prove nothing.
        return super().preprocessing() | {"decoder": decoder, "examples": self.table.examples or None}

    def read(self) -> Table:
        table = (
            read_copy(self.copy, self.task, self.official)
            if self.copy
            else read_prepared(self.root, self.task, self.official)
        )
        if not table.official and self.official:
            raise UserError(
                f"what is prepared of {self.task.name} below {self.root} was accepted with data.official=false; use it "
                "with data.official=false, or prepare the official archives"
            )
        if self.tunes:
            table.splits["test"] = Joined()
        return table


def read_prepared(root: Path, task: Task, official: bool = True) -> Table:
    """A task as `src.prepare` left it. Raises UserError if it is missing, changed, or not of the right examples."""
    words = ["data=vtab", f"data.task={task.name}", f"data.root={root}", *([] if official else ["data.official=false"])]
    again = shlex.join(["python", "-m", "src.prepare", *words])
    pack = Pack(root / task.source, task.name, again)
    manifest = pack.manifest
    splits: dict[str, Images] = {split: PackedImages(pack, split) for split in ("train", "val", "test")}
    if manifest.official:
        known = golden().keys.get(task.source, {})
        wrong = [split for split, digest in known.items() if manifest.keys[split] != digest]
        if wrong or (manifest.splits["train"], manifest.splits["val"]) != (TRAIN, VAL):
            raise UserError(
                f"{pack.folder} does not hold VTAB's {' and '.join(wrong) or 'numbers of'} examples; remove it and "
                f"prepare again: {again}"
            )
    return Table(
        pack.classes,
        splits,
        official=manifest.official,
        # Which 30 images of a class are drawn depends on how the disk lists them: no two machines' are alike.
        marks=[] if task.source in golden().keys else ["own split"],
        content=manifest.seal(),
        examples=digest_of([name for split in ("train", "val") for name in splits[split].names]),
    )

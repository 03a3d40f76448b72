"""What every benchmark's data module shares: its options, and its loaders."""

import os
import signal
from abc import abstractmethod
from dataclasses import replace
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from src.data.batches import Batch, Examples, FrozenExamples, collate, only
from src.data.order import BatchOrder
from src.data.table import Joined, Table, check_table
from src.data.transforms import IMAGENET_MEAN, IMAGENET_STD, EvalTransform, Transform, normalise
from src.records import UserError

KEPT_IMAGES = 1000
"""Splits up to this many images are kept in memory from run to run; 600 MB at 224 pixels in float32."""


class ImageData(LightningDataModule):
    """Base of the data modules. A subclass reads its `Table` and names its transform.

    batch_size: examples of one optimiser step, over all devices and accumulation. image_size: side of the network's
    input. normalisation: `imagenet` (the authors', whatever the backbone) or `backbone` (what its weights were trained
    with; `fit_backbone` says what). train_on: `train`, or `trainval` for train and val together, without
    validation. workers: loader processes a device; None leaves a core to training and takes at most eight. same_epoch:
    let every epoch repeat the first one's order and augmentation (debug=overfit). cache_frozen: compute what a method's
    frozen part makes of the images once, and map it from disk; `auto` where nothing random stands against it. cache_gb:
    the most that the cache may take, in 1e9 bytes.
    """

    upright = False
    fast_decoding = False

    def __init__(
        self,
        *,
        batch_size: int = 32,
        image_size: int = 224,
        normalisation: str = "imagenet",
        train_on: str = "train",
        workers: int | None = None,
        same_epoch: bool = False,
        cache_frozen: bool | Literal["auto"] = "auto",
        cache_gb: float = 8.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if normalisation not in ("imagenet", "backbone"):
            raise UserError(f"data.normalisation is {normalisation!r}; it is imagenet or backbone")
        if train_on not in ("train", "trainval"):
            raise UserError(f"data.train_on is {train_on!r}; it is train or trainval")
        if batch_size < 1:
            raise UserError(f"data.batch_size is {batch_size}; give at least 1")
        if workers is not None and workers < 0:
            raise UserError(f"data.workers is {workers}; give 0 or more")
        self.normalisation = normalisation
        self.mean: tuple[float, ...] = IMAGENET_MEAN
        self.std: tuple[float, ...] = IMAGENET_STD
        self.batch_size = batch_size
        self.image_size = image_size
        self.train_on = train_on
        self.workers = workers
        self.cache_frozen = cache_frozen
        self.cache_gb = cache_gb
        self.features: dict[str, dict[str, NDArray[Any]]] = {}
        """By split, features in the place of images, mapped from disk."""
        self.same_epoch = same_epoch
        self.seed = seed
        self._table: Table | None = None
        self._kept: dict[str, dict[int, Tensor]] | None = None

    def take_over(self, table: Table, kept: dict[str, dict[int, Tensor]]) -> None:
        """Use what another data module of the same settings has read, and share the images that it has made.

        kept: by split and side of the input, transformed images by example.
        """
        self._table = table
        self._kept = kept

    def fit_backbone(self, image_size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Take over the side of the network's input, and what its weights were trained with."""
        self.image_size = image_size
        if self.normalisation == "backbone":
            self.mean, self.std = tuple(mean), tuple(std)

    @abstractmethod
    def read(self) -> Table:
        """Read lists and labels, not pixels. Raises UserError for what is missing or wrong."""

    @abstractmethod
    def transform(self) -> Transform:
        """What every image goes through."""

    @property
    def table(self) -> Table:
        """The data set, read once and checked, with the training split that `train_on` asks for."""
        if self._table is None:
            table = check_table(self.read())
            if self.train_on == "trainval":
                both = Joined(table.splits["train"], table.splits["val"])
                table = replace(table, splits={**table.splits, "train": both, "val": Joined()})
            self._table = table
        return self._table

    def preprocessing(self) -> dict[str, object]:
        """What the record says of how pixels are made."""
        return {
            **self.transform().describe(),
            "mean": list(self.mean),
            "std": list(self.std),
            "orientation": "upright by EXIF" if self.upright else "as stored",
            "train_on": self.train_on,
        }

    def eval_transform(self) -> EvalTransform:
        """From a picture to the network's input, for a saved model."""
        return EvalTransform(self.transform(), self.mean, self.std, self.upright, self.fast_decoding)

    def setup(self, stage: str) -> None:
        """Switch validation off if there is nothing to validate on; Lightning would go through the motions and warn."""
        if self.trainer is not None and not self.table.splits["val"].labels:
            self.trainer.limit_val_batches = 0

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self.loader("test")

    def loader(self, split: str, shuffle: bool = False) -> DataLoader[Any]:
        """One split's loader for this device."""
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        parts = trainer.accumulate_grad_batches if trainer and shuffle else 1
        if self.batch_size < world * parts:
            raise UserError(
                f"data.batch_size={self.batch_size} cannot be shared among {world} devices x {parts} accumulated "
                "parts; take a larger batch or fewer devices"
            )
        images = self.table.splits[split]
        seed = self.seed if shuffle else None
        order = BatchOrder(
            len(images.labels),
            self.batch_size,
            seed=seed,
            rank=rank,
            world=world,
            parts=parts,
            same_epoch=self.same_epoch,
        )
        if trainer is not None and shuffle:
            # On resume, Lightning tells the order its epoch only after workers have begun to fetch, and what it calls
            # the current epoch is not yet restored; what it has processed is.
            progress: Any = trainer.fit_loop.epoch_progress.current
            order.set_epoch(progress.processed)
        if split in self.features:
            return DataLoader(FrozenExamples(self.features[split], images.labels), batch_sampler=order, collate_fn=only)
        workers = default_workers(world) if self.workers is None else self.workers
        transform = self.transform()
        kept = None
        if (
            self._kept is not None
            and len(images.labels) <= KEPT_IMAGES
            and not (shuffle and getattr(transform, "augments", True))
        ):
            kept = self._kept.setdefault(f"{split} {self.image_size}", {})
            workers = 0  # another process could not put its images there
        return DataLoader(
            Examples(images, transform, seed, kept),
            batch_sampler=order,
            collate_fn=collate,
            num_workers=workers,
            worker_init_fn=leave_signals,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0 and shuffle,
            prefetch_factor=4 if workers else None,
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalise on the device: a uint8 batch is a quarter of the bytes to move."""
        if batch.features:
            return batch
        return batch._replace(images=normalise(batch.images, self.mean, self.std))


def leave_signals(worker: int) -> None:
    """In a loader's worker: leave Ctrl-C, which reaches the whole group, to the process that it loads for.

    That one ends it; a worker that died of itself would look like a crash there.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def default_workers(world: int) -> int:
    """Loader processes a device: the cores it may use but one, eight at the most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(8, cores // world - 1))

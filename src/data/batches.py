"""From a split's examples to batches: of images, or of features in their place."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from src.data.order import Pick, random_of
from src.data.table import Images
from src.data.transforms import Transform


class Batch(NamedTuple):
    """B examples of one batch: all of it, or one device's share."""

    images: Tensor
    """(B, 3, H, W), 0 to 255 from the loader in what the transform gives, normalised float32 on the device."""
    labels: Tensor
    """(B,) class indices."""
    examples: Tensor
    """(B,) index within the split."""
    weights: Tensor
    """(B,) 0 for a stand-in that does not count, else 1."""
    total: int
    """Examples in the whole batch, over all devices."""
    features: dict[str, Tensor] = {}  # noqa: RUF012 - never changed
    """In the place of images, what a method's frozen part makes of them: by name, batch first; else empty."""


class Examples(Dataset[tuple[Tensor, int, Pick]]):
    """One split behind a loader: every item a function of (seed, epoch, example).

    kept: transformed images by example, which are made once and put there; for transforms that draw nothing.
    """

    def __init__(
        self, images: Images, transform: Transform, augment_seed: int | None, kept: dict[int, Tensor] | None = None
    ) -> None:
        self.images = images
        self.transform = transform
        self.augment_seed = augment_seed
        self.kept = kept

    def __getitem__(self, pick: Pick) -> tuple[Tensor, int, Pick]:
        return self.image(pick), self.images.labels[pick.example], pick

    def image(self, pick: Pick) -> Tensor:
        """The transformed image."""
        if self.kept is not None:
            if pick.example not in self.kept:
                self.kept[pick.example] = self.transform(self.images.pixels(pick.example), None)
            return self.kept[pick.example]
        random = None
        if self.augment_seed is not None:
            random = random_of(self.augment_seed, "augment", pick.epoch, pick.example)
        return self.transform(self.images.pixels(pick.example), random)

    def __len__(self) -> int:
        return len(self.images.labels)


class FrozenExamples(Dataset[Batch]):
    """One split's features behind a loader, a batch at a time."""

    def __init__(self, features: Mapping[str, NDArray[Any]], labels: Sequence[int]) -> None:
        self.features = features
        self.labels = labels

    def __getitems__(self, picks: list[Pick]) -> list[Batch]:
        places = [pick.example for pick in picks]
        return [
            Batch(
                torch.empty(len(picks), 0),
                torch.tensor([self.labels[place] for place in places]),
                torch.tensor(places),
                torch.tensor([pick.weight for pick in picks]),
                picks[0].total,
                {name: torch.from_numpy(array[places]) for name, array in self.features.items()},
            )
        ]

    def __len__(self) -> int:
        return len(self.labels)


def only(batches: list[Batch]) -> Batch:
    """The one batch of a list."""
    (batch,) = batches
    return batch


def collate(items: list[tuple[Tensor, int, Pick]]) -> Batch:
    """Stack a loader's items into a batch."""
    images, labels, picks = zip(*items, strict=True)
    return Batch(
        torch.stack(images),
        torch.tensor(labels),
        torch.tensor([pick.example for pick in picks]),
        torch.tensor([pick.weight for pick in picks]),
        picks[0].total,
    )

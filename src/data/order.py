"""Which examples make a batch, in which order, on which device: functions of (seed, epoch), not of what ran before."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Pick(NamedTuple):
    """One example of a batch, as a loader's worker gets it."""

    epoch: int
    example: int
    weight: float
    """0 for the stand-in that a device without a share of the batch computes, else 1."""
    total: int
    """Number of examples in the whole batch, over all devices."""


def random_of(seed: int, purpose: str, epoch: int, example: int = 0) -> np.random.Generator:
    """A generator of its own for each purpose, epoch and example."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *purpose.encode(), epoch, example])))


class BatchOrder:
    """Cuts an epoch into batches first and shares each out after, so that the share never changes the batch.

    A batch is shared among world x parts places: device `rank` takes `parts` of them, one after another
    (accumulation). Nothing is dropped or padded: a place that gets no example gets a stand-in of weight 0.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int | None,
        rank: int = 0,
        world: int = 1,
        parts: int = 1,
        same_epoch: bool = False,
    ) -> None:
        """seed: what shuffles each epoch, or None for the natural order. same_epoch: let every epoch be the first."""
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world = world
        self.parts = parts
        self.same_epoch = same_epoch
        self.epoch = 0

    @property
    def sampler(self) -> "BatchOrder":
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is of; Lightning calls it, also after a resume."""
        self.epoch = 0 if self.same_epoch else epoch

    def __len__(self) -> int:
        return -(-self.count // self.batch_size) * self.parts

    def __iter__(self) -> Iterator[list[Pick]]:
        order = np.arange(self.count)
        if self.seed is not None:
            order = random_of(self.seed, "order", self.epoch).permutation(order)
        for start in range(0, self.count, self.batch_size):
            batch = order[start : start + self.batch_size].tolist()
            for part in range(self.parts):
                place = self.rank * self.parts + part
                share = batch[place :: self.world * self.parts]
                weight = 1.0 if share else 0.0
                yield [Pick(self.epoch, example, weight, len(batch)) for example in share or batch[:1]]

"""The demo's data module: digit scenes, generated when they are needed."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from src.data.module import ImageData
from src.data.scenes import Scenes
from src.data.table import Images, Table
from src.data.transforms import PlainTransform


class SceneImages(Images):
    """The images of one split of generated scenes, with their object masks."""

    def __init__(self, scenes: Scenes, split: str) -> None:
        self.scenes = scenes
        self.names = [f"{split}/{example:05d}" for example in range(len(scenes))]
        self.labels = [example % len(scenes.classes) for example in range(len(scenes))]

    def pixels(self, example: int) -> Tensor:
        return torch.from_numpy(self.scenes[example].image)

    def mask(self, example: int) -> Tensor:
        """Where the digit's ink is: bool (H, W)."""
        return torch.from_numpy(self.scenes[example].mask)


class DigitScenes(ImageData):
    """Scenes with one handwritten digit each, to be told from distractors.

    classes: digits that are the classes. train, val, test: number of scenes. easy: share of the training scenes that
    have one large digit and no distractors. scene_seed: what they are generated from; the run's seed does not change
    them. common: what every data module takes, see ImageData.
    """

    def __init__(
        self,
        name: str = "scenes",
        classes: Sequence[int] = (0, 1, 2, 3, 4),
        *,
        train: int = 500,
        val: int = 200,
        test: int = 500,
        easy: float = 0.0,
        scene_seed: int = 0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.classes = tuple(classes)
        self.counts = {"train": train, "val": val, "test": test}
        self.easy = {"train": easy}
        self.scene_seed = scene_seed

    def transform(self) -> PlainTransform:
        return PlainTransform(self.image_size)

    def read(self) -> Table:
        splits: dict[str, Images] = {
            split: SceneImages(
                Scenes(self.classes, split, count, self.scene_seed, easy=self.easy.get(split, 0.0)), split
            )
            for split, count in self.counts.items()
        }
        return Table([str(digit) for digit in self.classes], splits, official=True)

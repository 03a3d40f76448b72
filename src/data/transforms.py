"""From a decoded image to the pixels that the network sees."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from src.data.images import read_image, to_tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def resize(image: Tensor, shape: list[int]) -> Tensor:
    """uint8 (3, H, W) resized bilinearly with antialiasing to (3, *shape)."""
    resized: Tensor = tv.resize(image, shape, interpolation=InterpolationMode.BILINEAR, antialias=True)
    return resized


def resize_shorter(image: Tensor, size: int) -> Tensor:
    """uint8 (3, H, W) resized bilinearly with antialiasing so that its shorter side is `size`."""
    height, width = image.shape[-2:]
    short = min(height, width)
    if short == size:
        return image
    # The longer side is truncated, as torchvision has always done it.
    shape = [int(size * height / short), int(size * width / short)]
    return resize(image, shape)


def centre_crop(image: Tensor, size: int) -> Tensor:
    """The middle size x size pixels; an odd spare pixel goes as in the torchvision 0.8.2 that the authors pin."""
    top, left = ((side - size + 1) // 2 for side in image.shape[-2:])
    return image[:, top : top + size, left : left + size]


@dataclass(frozen=True)
class CropTransform:
    """Resize and crop, as TOAST and VPT do on FGVC (their src/data/transforms.py).

    Evaluation: shorter side to `resize`, centre crop. Training: the crop at a random place, and a flip with p = 0.5,
    both drawn from the generator that is handed in: row, column, flip.
    """

    crop: int
    augments: ClassVar[bool] = True

    @property
    def resize(self) -> int:
        """Shorter side before the crop: 256 for 224, and in that ratio for any other (64 -> 73)."""
        return self.crop * 8 // 7

    def __call__(self, image: Tensor, random: np.random.Generator | None = None) -> Tensor:
        """uint8 (3, H, W) to uint8 (3, crop, crop); without a generator, the evaluation transform."""
        image = resize_shorter(image, self.resize)
        if random is None:
            return centre_crop(image, self.crop)
        height, width = image.shape[-2:]
        top = int(random.integers(height - self.crop + 1))
        left = int(random.integers(width - self.crop + 1))
        image = image[:, top : top + self.crop, left : left + self.crop]
        return image.flip(-1) if random.random() < 0.5 else image

    def describe(self) -> dict[str, object]:
        """What the record says of it."""
        return {
            "resize": self.resize,
            "crop": self.crop,
            "interpolation": "bilinear, antialiased",
            "augmentation": "random crop, horizontal flip",
        }


@dataclass(frozen=True)
class PlainTransform:
    """Images that have the network's size already, without augmentation."""

    size: int
    augments: ClassVar[bool] = False

    def __call__(self, image: Tensor, random: np.random.Generator | None = None) -> Tensor:
        """uint8 (3, size, size), unchanged; an image of another size is resized to it."""
        if image.shape[-2:] == (self.size, self.size):
            return image
        return resize(image, [self.size, self.size])

    def describe(self) -> dict[str, object]:
        """What the record says of it."""
        return {"resize": self.size, "crop": None, "interpolation": "bilinear, antialiased", "augmentation": "none"}


@dataclass(frozen=True)
class SquashTransform:
    """VTAB's: any image to size x size, its aspect ratio not kept, bilinear without antialiasing, in float32.

    Equal to `tf.image.resize` (half-pixel centres) to rounding. Source: TOAST src/data/datasets/tf_dataset.py.
    """

    size: int
    augments: ClassVar[bool] = False

    def __call__(self, image: Tensor, random: np.random.Generator | None = None) -> Tensor:
        """uint8 (3, H, W) to float32 (3, size, size) in 0 to 255."""
        shape = (self.size, self.size)
        return F.interpolate(image[None].float(), shape, mode="bilinear", align_corners=False, antialias=False)[0]

    def describe(self) -> dict[str, object]:
        """What the record says of it."""
        return {
            "resize": self.size,
            "crop": None,
            "interpolation": "bilinear, not antialiased, aspect ratio not kept",
            "augmentation": "none",
        }


Transform = CropTransform | PlainTransform | SquashTransform


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Pixels 0..255 (..., 3, H, W) to float32, scaled to [0, 1] and then by mean and standard deviation."""
    shift = torch.tensor(mean, device=images.device).view(3, 1, 1)
    scale = torch.tensor(std, device=images.device).view(3, 1, 1)
    # In place: fresh memory for each step would take ten times as long as the arithmetic.
    pixels = images.float() if images.dtype != torch.float32 else images.clone()
    return pixels.div_(255).sub_(shift).div_(scale)


@dataclass(frozen=True)
class EvalTransform:
    """What a saved model's pictures go through: a Pillow image or a path to (3, H, W), normalised."""

    transform: Transform
    mean: tuple[float, ...]
    std: tuple[float, ...]
    upright: bool = False
    fast: bool = False

    def __call__(self, image: Image.Image | str | Path) -> Tensor:
        pixels = (
            to_tensor(image) if isinstance(image, Image.Image) else read_image(Path(image), self.upright, self.fast)
        )
        return normalise(self.transform(pixels), self.mean, self.std)

"""python benchmarks/decoding.py [FOLDER]: how fast one core turns JPEGs into training batches, ours and the usual way.

The usual way: Pillow decodes, torchvision's transforms work on Pillow images and normalise each. Ours: what the loaders
of `src.data` do. Both resize to 256, crop 224 at random, flip, and end as a normalised float32 batch. FOLDER: JPEGs to
take; without it, smooth pictures with grain of 500 x 375 pixels are made. Rounds are interleaved; the ratio is of
medians, all on one thread.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from src.data.images import read_image
from src.data.order import random_of
from src.data.transforms import IMAGENET_MEAN, IMAGENET_STD, CropTransform, normalise

BATCH, ROUNDS = 32, 15


def pictures(folder: Path) -> list[Path]:
    """Write a batch of JPEGs that compress as photographs do."""
    random = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(BATCH)]
    for path in paths:
        smooth = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        grain = random.normal(0, 8, (375, 500, 3))
        Image.fromarray(np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)).save(path, quality=90)
    return paths


USUAL = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.RandomCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
)
OURS = CropTransform(224)


def usual(paths: list[Path]) -> Tensor:
    """A batch the usual way."""
    return torch.stack([USUAL(Image.open(path).convert("RGB")) for path in paths])


def ours(paths: list[Path]) -> Tensor:
    """A batch as our loaders make it: uint8 up to the device, normalised there."""
    images = [OURS(read_image(path), random_of(0, "augment", 0, number)) for number, path in enumerate(paths)]
    return normalise(torch.stack(images), IMAGENET_MEAN, IMAGENET_STD)


def seconds(make: Callable[[list[Path]], Tensor], paths: list[Path]) -> float:
    """How long one batch takes once the way before has left the caches and the allocator."""
    for _ in range(2):
        start = time.perf_counter()
        make(paths)
        taken = time.perf_counter() - start
    return taken


def main(arguments: list[str]) -> None:
    """Print images a second of both, and the ratio."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = sorted(Path(arguments[0]).rglob("*.jpg"))[:BATCH] if arguments else pictures(Path(folder))
        times: dict[str, list[float]] = {"usual": [], "ours": []}
        for _ in range(ROUNDS):
            times["usual"].append(seconds(usual, paths))
            times["ours"].append(seconds(ours, paths))
    for name, taken in times.items():
        print(f"{name:>5}: {len(paths) / median(taken):6.0f} images/s on one core")
    ratios = [one / other for one, other in zip(*times.values(), strict=True)]
    print(f"ratio: {median(ratios):.2f} (quartiles {np.quantile(ratios, 0.25):.2f} to {np.quantile(ratios, 0.75):.2f})")


if __name__ == "__main__":
    main(sys.argv[1:])

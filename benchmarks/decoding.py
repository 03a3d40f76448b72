"""python benchmarks/decoding.py [FOLDER]: how fast one core turns JPEGs into training batches, ours and the usual way.

The usual way: Pillow decodes, torchvision's transforms work on Pillow images and normalise each. Ours: what the loaders
of `src.data` do, which leave uint8 to the device; with its normalisation on the same core, and without. All resize to
256, crop 224 at random and flip. FOLDER: JPEGs to take; without it, smooth pictures with grain of 500 x 375 pixels are
made. Rounds are interleaved; a ratio is the median of the rounds', with quartiles, all on one thread.
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


def loaded(paths: list[Path]) -> Tensor:
    """A batch as our loaders' workers leave it, in uint8; the device normalises."""
    images = [OURS(read_image(path), random_of(0, "augment", 0, number)) for number, path in enumerate(paths)]
    return torch.stack(images)


def ours(paths: list[Path]) -> Tensor:
    """A batch of ours, normalised by the same core."""
    return normalise(loaded(paths), IMAGENET_MEAN, IMAGENET_STD)


WAYS = {"usual": usual, "ours": ours, "ours, normalised on the device": loaded}


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
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            for name, way in WAYS.items():
                times[name].append(seconds(way, paths))
    for name, taken in times.items():
        ratios = [one / other for one, other in zip(times["usual"], taken, strict=True)]
        low, high = np.quantile(ratios, (0.25, 0.75))
        rate = len(paths) / median(taken)
        print(f"{name:<31} {rate:5.0f} images/s on one core, {median(ratios):.2f} times ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main(sys.argv[1:])

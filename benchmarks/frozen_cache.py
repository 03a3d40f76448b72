"""python benchmarks/frozen_cache.py [ROUNDS]: how much faster a step is on cached features, and a grid of cells.

A ViT-S at 224 pixels with random weights, batch 8, without drop path. A step is forward, backward and update; rounds of
steps with and without the cache are interleaved in one process, on all cores, and the ratio is of medians. For linear
probing the whole grid of 40 cells is compared too: an epoch of each cell by itself from images, against computing the
features once and an epoch of all cells at once.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from src.methods import Linear, Method, Toast

BATCH, CLASSES, CELLS, EPOCHS = 8, 100, 40, 100
METHODS: dict[str, Callable[[], Method]] = {
    "toast": lambda: Toast(backbone(), CLASSES),
    "toast_lite": lambda: Toast(backbone(), CLASSES, rank=4, train_channel_transform=True),
    "toast_late": lambda: Toast(backbone(), CLASSES, first_block=None),
    "linear": lambda: Linear(backbone(), CLASSES),
}


def backbone() -> torch.nn.Module:
    """A ViT-S at a random start."""
    torch.manual_seed(0)
    return timm.create_model("vit_small_patch16_224", num_classes=0)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def step(method: Method, optimiser: torch.optim.Optimizer, forward: Callable[[], Tensor], labels: Tensor) -> None:
    """One training step."""
    F.cross_entropy(forward(), labels).backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def grid_step(pooled: Tensor, weight: Tensor, labels: Tensor) -> None:
    """One step of all linear probes at once."""
    logits = torch.einsum("bd,kcd->kbc", pooled, weight)
    slope = logits.softmax(dim=-1) - F.one_hot(labels, CLASSES)
    weight.sub_(0.01 * torch.einsum("kbc,bd->kcd", slope, pooled))


def measure(name: str, method: Method, rounds: int) -> None:
    """Print a method's line."""
    method.train()
    images, labels = torch.randn(BATCH, 3, 224, 224), torch.randint(CLASSES, (BATCH,))
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.01, momentum=0.9)
    features = method.frozen(images)
    plain_times, cached_times = [], []
    for _ in range(rounds + 1):
        plain_times.append(seconds(lambda: step(method, optimiser, lambda: method(images).logits, labels)))
        cached_times.append(seconds(lambda: step(method, optimiser, lambda: method.adapted(features).logits, labels)))
    once = seconds(lambda: method.frozen(images))
    plain, cached = median(plain_times[1:]), median(cached_times[1:])
    sweep = 28 * EPOCHS * plain / (once + 28 * EPOCHS * cached)
    size = sum(value.numel() * value.element_size() for value in features.values()) / BATCH / 1e6
    print(
        f"{name:>10}: step {1e3 * plain:.0f} ms from images, {1e3 * cached:.1f} ms from the cache, ratio "
        f"{plain / cached:.2f}; a sweep of 28 cells, {EPOCHS} epochs: {sweep:.2f}; {size:.2f} MB an image"
    )
    if isinstance(method, Linear):
        weight = torch.zeros(CELLS, CLASSES, features["pooled"].shape[1])
        at_once = median(seconds(lambda: grid_step(features["pooled"], weight, labels)) for _ in range(20))
        ratio = CELLS * EPOCHS * plain / (once + EPOCHS * at_once)
        print(f"            {CELLS} cells at once: step {1e3 * at_once:.1f} ms; the whole grid: {ratio:,.0f} times")


def main(arguments: list[str]) -> None:
    """Print a line a method."""
    for name, make in METHODS.items():
        measure(name, make(), int(arguments[0]) if arguments else 7)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Random factors as functions of (seed, epoch, example): the same on every device and in every batch."""

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from src.methods import Draw

CHUNK = 1 << 22
"""Numbers drawn at once; prompt dropout asks for a million an example, and each costs 30 bytes on the way."""


def signed(value: int) -> int:
    """A 64-bit pattern as torch's int64 holds it."""
    return (value & 0xFFFFFFFFFFFFFFFF) - ((value & 0x8000000000000000) << 1)


GOLDEN = signed(0x9E3779B97F4A7C15)
FIRST = signed(0xBF58476D1CE4E5B9)
SECOND = signed(0x94D049BB133111EB)


def mix(z: Tensor) -> Tensor:
    """splitmix64's finaliser (Steele, Lea and Flood, 2014) on int64, whose products wrap."""
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * FIRST
    z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * SECOND
    return z ^ ((z >> 31) & 0x1FFFFFFFF)


def uniform(seed: int, purpose: str, epoch: int, examples: Tensor, count: int) -> Tensor:
    """Numbers in [0, 1): (B, count) float32, row b a function of (seed, purpose, epoch, examples[b])."""
    stream = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    keys = mix(examples.long() * GOLDEN + int.from_bytes(stream[:8], "big", signed=True))
    counters = torch.arange(1, count + 1, device=examples.device) * GOLDEN
    rows = max(1, CHUNK // count)
    bits = [(mix(part[:, None] + counters) >> 40) & 0xFFFFFF for part in torch.split(keys, rows)]
    return torch.cat([part.float() for part in bits]) / (1 << 24)


def draw_noise(draws: Mapping[str, Draw], seed: int, epoch: int, examples: Tensor) -> dict[str, Tensor]:
    """The factors of `Method.noise` for the examples (B,) of a batch: each (B, *shape), 0 or 1 / keep."""
    noise = {}
    for name, draw in draws.items():
        numbers = uniform(seed, name, epoch, examples, math.prod(draw.shape)).view(-1, *draw.shape)
        keep = draw.keep.to(numbers)
        noise[name] = (numbers < keep) / keep
    return noise

"""Low-rank updates of linear layers (Hu et al., 2021), for LoRA and for TOAST-Lite's feedback layers."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowRank(nn.Module):
    """x -> (alpha / rank) x A' B': A (rank, in) Kaiming-uniform, B (out, rank) zero, so it starts as nothing."""

    def __init__(
        self, inputs: int, outputs: int, rank: int, alpha: float, random: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if not 1 <= rank <= min(inputs, outputs):
            raise ValueError(f"rank is from 1 to {min(inputs, outputs)} here, not {rank}")
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, inputs))
        self.b = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5), generator=random)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.linear(x, self.a), self.b)

    def matrix(self) -> Tensor:
        """The update as one matrix (out, in)."""
        return self.scale * self.b @ self.a

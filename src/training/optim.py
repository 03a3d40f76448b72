"""The optimiser and its schedule, as the authors' trainer has them."""

import math
from abc import abstractmethod
from typing import Any

import torch

from src.methods import Method
from src.records import UserError


class Optim:
    """A learning rate with warm-up and cosine, and which parameters decay; subclasses name the optimiser.

    lr: the rate as used, not rescaled by the batch. weight_decay: of every trained parameter but those that the method
    names in `undecayed`. warmup_epochs: None means a tenth of the epochs, rounded down. schedule: `epoch` moves the
    rate once an epoch, so that the first runs at zero (the authors' lr_scheduler.py); `step` takes the same factor at
    step / steps per epoch. Raises UserError for a negative number.
    """

    def __init__(
        self, lr: float, weight_decay: float, *, warmup_epochs: int | None = None, schedule: str = "epoch"
    ) -> None:
        for name, value in {"lr": lr, "weight_decay": weight_decay, "warmup_epochs": warmup_epochs or 0}.items():
            check_number(name, value)
        if schedule not in ("epoch", "step"):
            raise UserError(f"optim.schedule is {schedule!r}; it is epoch or step")
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup_epochs = warmup_epochs
        self.schedule = schedule

    @abstractmethod
    def build(self, method: Method) -> torch.optim.Optimizer:
        """An optimiser over the method's trained parameters."""

    def groups(self, method: Method) -> list[dict[str, Any]]:
        """The trained parameters in a decayed and an undecayed group."""
        parameters = dict(method.named_parameters())
        undecayed = method.undecayed()
        names = method.trained()
        groups = [
            {"params": [parameters[n] for n in names if n not in undecayed], "weight_decay": self.weight_decay},
            {"params": [parameters[n] for n in names if n in undecayed], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def rate(self, epoch: int, step: int, steps_per_epoch: int, epochs: int) -> float:
        """The learning rate of step `step` (from 0 within its epoch) of epoch `epoch` (from 0) of `epochs`."""
        warmup = epochs // 10 if self.warmup_epochs is None else self.warmup_epochs
        place = epoch + (step / steps_per_epoch if self.schedule == "step" else 0)
        return self.lr * cosine(place, warmup, epochs)


class Sgd(Optim):
    """SGD with momentum and coupled weight decay, the authors' optimiser for every method."""

    def __init__(self, lr: float, weight_decay: float, momentum: float = 0.9, **schedule: Any) -> None:
        super().__init__(lr, weight_decay, **schedule)
        check_number("momentum", momentum)
        self.momentum = momentum

    def build(self, method: Method) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.groups(method), lr=self.lr, momentum=self.momentum)


class AdamW(Optim):
    """AdamW, for training a backbone from its random start."""

    def build(self, method: Method) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.groups(method), lr=self.lr)


def check_number(name: str, value: float) -> None:
    """Raise UserError unless a setting is a number from 0 up."""
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f"optim.{name} is {value}; give a number that is not negative")


def cosine(place: float, warmup: int, total: int) -> float:
    """The factor at `place` epochs: linear from 0 over `warmup` epochs, then half a cosine to 0 at `total`."""
    if place < warmup:
        return place / warmup
    if total <= warmup:
        return 1.0
    return (1 + math.cos(math.pi * (place - warmup) / (total - warmup))) / 2

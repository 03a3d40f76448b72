"""The LightningModule that hosts every method."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import Metric

from src.backbones import tensors_sha256
from src.data.batches import Batch
from src.methods import Method
from src.methods.vit import blocks_of
from src.records import UserError
from src.training.noise import draw_noise
from src.training.optim import Optim

CHECKED_EVERY = 16
"""Steps between two looks at whether the loss is finite; each look waits for the device."""


class Diverged(Exception):
    """The loss is not a finite number any more."""


class Tally(Metric):
    """Loss, accuracy and number of examples, over all batches and devices; stand-ins (weight 0) do not count."""

    loss_sum: Tensor
    correct: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("loss_sum", torch.zeros(()), dist_reduce_fx="sum")
        # Whole numbers stay whole, whatever the precision of the rest.
        self.add_state("correct", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, losses: Tensor, logits: Tensor, batch: Batch) -> None:
        """Add a batch: its losses (B,) and logits (B, C)."""
        counted = batch.weights > 0
        # bf16-true would have made the state bf16, in which a thousand ones add up to 256.
        self.loss_sum = self.loss_sum.float() + (losses.detach().float() * batch.weights).sum()
        self.correct += ((logits.argmax(dim=1) == batch.labels) & counted).sum()
        self.count += counted.sum()

    def compute(self) -> dict[str, float]:
        """Mean loss and top-1 accuracy, a fraction, and the number of images that they are of."""
        count = int(self.count)
        mean = max(count, 1)
        return {"loss": float(self.loss_sum) / mean, "accuracy": int(self.correct) / mean, "images": count}


class TransferModule(LightningModule):
    """Trains what a method names, and checkpoints nothing else.

    method: any Method. classes: their names, in the order of the head. optim: the optimiser and its schedule.
    seed: what drop path and dropout are drawn from.
    """

    def __init__(self, method: Method, classes: Sequence[str], optim: Optim, seed: int) -> None:
        super().__init__()
        self.method = method
        self.classes = list(classes)
        self.optim = optim
        self.seed = seed
        self.draws = method.noise()
        self.strict_loading = False  # a checkpoint holds the trained parameters; `on_load_checkpoint` checks the rest
        self.tallies = torch.nn.ModuleDict({f"{split}_tally": Tally() for split in ("train", "val", "test")})
        self.results: dict[str, float] = {}
        self.rate = 0.0
        self._frozen: dict[str, str] | None = None
        self._frozen_at_start: dict[str, str] = {}
        self._gradients_checked = False

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optim.build(self.method)

    # Training

    def on_fit_start(self) -> None:
        self._frozen_at_start = frozen_hashes(self.method)

    def on_fit_end(self) -> None:
        """No optimiser, no precision plugin and no user's callback may have touched a frozen parameter."""
        if frozen_hashes(self.method) != self._frozen_at_start:
            raise RuntimeError("training changed a frozen parameter")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate: a function of the place in training, so that resuming needs no schedule's state."""
        parts = self.trainer.accumulate_grad_batches
        steps = max(1, int(self.trainer.num_training_batches) // parts)
        epochs = self.trainer.max_epochs or 1
        self.rate = self.optim.rate(self.current_epoch, batch_idx // parts, steps, epochs)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.rate

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        noise = draw_noise(self.draws, self.seed, self.current_epoch, batch.examples)
        losses, logits = self.losses(batch, noise)
        self.tally("train").update(losses, logits, batch)
        if batch_idx % CHECKED_EVERY == 0 and self.trainer.world_size == 1 and not bool(torch.isfinite(losses).all()):
            raise Diverged(f"the loss is not finite in epoch {self.current_epoch + 1}, step {batch_idx + 1}")
        # Lightning divides by the accumulated parts and DDP by the devices; the whole batch's mean is what counts.
        share = self.trainer.world_size * self.trainer.accumulate_grad_batches / batch.total
        return (losses * batch.weights).sum() * share

    def losses(self, batch: Batch, noise: dict[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Cross entropy (B,) in float32, and logits (B, C)."""
        dtype = self.method.head.weight.dtype  # trainer.precision=bf16-true and 64-true convert the weights
        noise = {name: factors.to(dtype) for name, factors in (noise or {}).items()}
        if batch.features:
            features = {name: value.to(dtype) for name, value in batch.features.items()}
            logits = self.method.adapted(features, noise).logits.float()
        else:
            logits = self.method(batch.images.to(dtype), noise).logits.float()
        return F.cross_entropy(logits, batch.labels, reduction="none"), logits

    def on_after_backward(self) -> None:
        """Name the trained parameters that the first backward pass left without a gradient."""
        if self._gradients_checked:
            return
        self._gradients_checked = True
        parameters = dict(self.method.named_parameters())
        missing = [name for name in self.method.trained() if parameters[name].grad is None]
        if missing:
            raise RuntimeError(f"declared as trained, but without a gradient: {', '.join(missing)}")

    def on_train_epoch_start(self) -> None:
        self.results = {}  # an epoch without validation has no validation figures, not the last ones

    def on_train_epoch_end(self) -> None:
        self.finish("train")

    # Evaluation

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.evaluate("test", batch)

    def evaluate(self, split: str, batch: Batch) -> Tensor:
        """Count one batch in; returns its logits (B, C)."""
        losses, logits = self.losses(batch)
        self.tally(split).update(losses, logits, batch)
        return logits

    def tally(self, split: str) -> Tally:
        """The running figures of one split."""
        return cast(Tally, self.tallies[f"{split}_tally"])

    def on_validation_epoch_end(self) -> None:
        self.finish("val")

    def on_test_epoch_end(self) -> None:
        self.finish("test")

    def finish(self, split: str) -> None:
        """Close a split's tally for this epoch, over all devices, and hand its figures to the loggers."""
        found = self.tally(split).compute()
        self.tally(split).reset()
        self.results |= {f"{split}/{name}": value for name, value in found.items()}
        logged = {f"{split}/{name}": found[name] for name in ("loss", "accuracy")}
        if not math.isfinite(found["loss"]):
            raise Diverged(f"the {split} loss is not finite in epoch {self.current_epoch + 1}")
        self.log_dict(logged | ({"lr": self.rate} if split == "train" else {}), rank_zero_only=True)

    # Checkpoints

    def frozen(self) -> dict[str, str]:
        """Checksums of what training leaves alone; computed once, since none of it may change."""
        if self._frozen is None:
            self._frozen = frozen_hashes(self.method)
        return self._frozen

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trained parameters only, and checksums of the frozen ones that they lean on."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {f"method.{name}": state[f"method.{name}"] for name in self.method.trained()}
        checkpoint["frozen"] = self.frozen()
        checkpoint["classes"] = self.classes
        checkpoint["heads"] = heads(self.method)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_checkpoint(self.method, checkpoint, self.frozen())


def heads(method: Method) -> int:
    """Attention heads of the backbone, which its weights do not show."""
    count: int = blocks_of(method.backbone)[0].attn.num_heads
    return count


def trained_state(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """A checkpoint's trained parameters under the method's names."""
    return {name.removeprefix("method."): value for name, value in checkpoint["state_dict"].items()}


def check_checkpoint(method: Method, checkpoint: dict[str, Any], frozen: dict[str, str]) -> None:
    """Raise UserError unless a checkpoint is of this method, this size and these frozen weights."""
    parameters = dict(method.named_parameters())
    state = trained_state(checkpoint)
    different = sorted(set(state) ^ set(method.trained()))
    if different:
        raise UserError(
            f"the checkpoint is of another method or other options: it differs in {', '.join(different[:3])}"
        )
    for name, value in state.items():
        if value.shape != parameters[name].shape:
            shapes = f"{tuple(value.shape)} there and {tuple(parameters[name].shape)} here"
            raise UserError(f"the checkpoint is of another size: {name} is {shapes}")
    if checkpoint.get("heads") != heads(method):
        raise UserError(f"the checkpoint is of a backbone with {checkpoint.get('heads')} heads, not {heads(method)}")
    changed = sorted(name for name, digest in frozen.items() if checkpoint.get("frozen", {}).get(name) != digest)
    if changed:
        raise UserError(
            f"the checkpoint was trained on other frozen weights: {changed[0]} and {len(changed) - 1} more differ; "
            "give the backbone file and method.init that it was trained with"
        )


def frozen_hashes(method: Method) -> dict[str, str]:
    """sha256 of every parameter that training leaves alone, by name."""
    trained = set(method.trained())
    return {n: tensors_sha256({"": p.detach().cpu()}) for n, p in method.named_parameters() if n not in trained}

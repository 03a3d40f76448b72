"""What a run writes and shows while it trains.

Those that need an epoch's figures are Lightning `Checkpoint`s: it calls them after the module's own hooks.
"""

import csv
import io
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Checkpoint
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from src.data.batches import Batch
from src.records import write_text
from src.training.console import console, log
from src.training.loggers import is_anew, replay

COLUMNS = ("epoch", "step", "lr", "train/loss", "train/accuracy", "val/loss", "val/accuracy")


class History(Checkpoint):
    """metrics.csv, a row an epoch, and last.ckpt, which carries the rows: both survive a kill together.

    folder: the run folder. The csv has no time columns: an interrupted run's equals an uninterrupted one's.
    before_writing: raises if this process may not write there any more. saves: whether to write checkpoints.
    """

    def __init__(self, folder: Path, before_writing: Callable[[], None], saves: bool) -> None:
        self.folder = folder
        self.before_writing = before_writing
        self.saves = saves
        self.rows: list[dict[str, float]] = []
        self.parts: list[dict[str, Any]] = []
        """On what the epochs were computed, in order; a run may go on elsewhere."""

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        part = {"device": device_name(trainer), "processes": trainer.world_size, "epochs": 0}
        if not self.parts or self.parts[-1] | {"epochs": 0} != part:
            self.parts.append(part)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        for logger in trainer.loggers:
            if is_anew(logger):
                replay(logger, self.rows)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        figures = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "lr": module.rate} | module.results
        self.rows.append({name: figures[name] for name in COLUMNS if name in figures})
        self.parts[-1]["epochs"] += 1
        self.before_writing()
        self.write(trainer)
        if self.saves:
            trainer.save_checkpoint(self.folder / "checkpoints" / "last.ckpt")

    def write(self, trainer: Any) -> None:
        """Write metrics.csv, by the first device alone."""
        if trainer.is_global_zero:
            text = io.StringIO()
            table = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
            table.writeheader()
            table.writerows(self.rows)
            write_text(self.folder / "metrics.csv", text.getvalue())

    def best(self) -> tuple[float | None, int | None]:
        """The best validation accuracy and its epoch (from 1), the earliest of equals; for information only."""
        rows = [row for row in self.rows if "val/accuracy" in row]
        if not rows:
            return None, None
        row = max(rows, key=lambda row: (row["val/accuracy"], -row["epoch"]))
        return row["val/accuracy"], int(row["epoch"])

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "parts": self.parts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]
        self.parts = state_dict["parts"]


def device_name(trainer: Any) -> str:
    """The name of what a trainer computes on."""
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


class Stopwatch(Callback):
    """Seconds an epoch, images a second, and the share of time that training waited for data."""

    def __init__(self) -> None:
        self.epochs: list[tuple[float, float, int]] = []
        self.mark = self.waited = self.begun = 0.0
        self.images = 0
        self.devices = 1

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.devices = trainer.world_size
        self.begun = self.mark = time.perf_counter()
        self.waited, self.images = 0.0, 0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Batch, batch_idx: int) -> None:
        self.waited += time.perf_counter() - self.mark

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        # Stand-ins are computed too, but no image of the epoch.
        share = trainer.world_size > 1 or trainer.accumulate_grad_batches > 1
        self.images += int(batch.weights.sum()) if share else len(batch.labels)
        self.mark = time.perf_counter()

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self.close()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the epoch's training part, before validation if there is any."""
        if self.images:
            self.epochs.append((time.perf_counter() - self.begun, self.waited, self.images))
            self.images = 0

    def speed(self) -> tuple[float, float]:
        """Images a second on this device, and the share of waiting, so far in this epoch or in the last one."""
        seconds, waited, images = time.perf_counter() - self.begun, self.waited, self.images
        if not images and self.epochs:
            seconds, waited, images = self.epochs[-1]
        return images / max(seconds, 1e-9), waited / max(seconds, 1e-9)

    def cost(self) -> dict[str, float | int | None]:
        """What the record keeps; the first epoch of several, which warms up, is left out."""
        epochs = self.epochs[1:] or self.epochs
        if not epochs:
            return {"seconds_per_epoch": None, "images_per_second": None, "data_wait_share": None}
        return {
            "seconds_per_epoch": median(seconds for seconds, _, _ in epochs),
            "images_per_second": self.devices * sum(i for _, _, i in epochs) / sum(s for s, _, _ in epochs),
            "data_wait_share": sum(waited for _, waited, _ in epochs) / sum(seconds for seconds, _, _ in epochs),
            "peak_memory_bytes": peak_memory(),
        }


def peak_memory() -> int:
    """The most memory in use so far: on the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class ProgressBar(Checkpoint):
    """A bar in a terminal or a notebook, and one line an epoch everywhere; the first device alone speaks."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self.stopwatch = stopwatch
        self.bar: Progress | None = None
        self.task: TaskID | None = None

    def on_train_start(self, trainer: Any, module: Any) -> None:
        if trainer.is_global_zero and ((console.is_terminal and not console.is_dumb_terminal) or console.is_jupyter):
            columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
            speed = TextColumn("{task.fields[speed]}")
            self.bar = Progress(*columns, speed, console=console, transient=True, refresh_per_second=4)
            self.bar.start()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.bar is None:
            return
        speed, waited = self.stopwatch.speed()
        text = f"{speed * trainer.world_size:.3g} images/s, {waited:.0%} waiting for data"
        if self.task is None:
            self.task = self.bar.add_task("", total=trainer.num_training_batches, speed=text)
        name = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.bar.update(self.task, description=name, completed=batch_idx + 1, speed=text)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        if not trainer.is_global_zero:
            return
        speed, waited = self.stopwatch.speed()
        figures = [
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            f"loss {module.results['train/loss']:.4f}",
        ]
        if "val/accuracy" in module.results:
            figures.append(f"val {module.results['val/accuracy']:.1%}")
        figures += [
            f"lr {module.rate:.2g}",
            f"{speed * trainer.world_size:.3g} images/s",
            f"{waited:.0%} waiting for data",
        ]
        log.info("  ".join(figures))

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.close()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = self.task = None

"""The test split once more, from what a run saved."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from src.config.build import build
from src.data.batches import Batch
from src.data.table import Images, Table
from src.records import UserError, write_text
from src.training.console import quieten
from src.training.module import TransferModule
from src.training.parts import set_threads
from src.training.saved import load_saved
from src.training.signals import KeepHandlers
from src.training.trainer import forget_stale_ranks

COLUMNS = ("image", "label", "predicted", "correct", "probability")


class Predictions(Callback):
    """Collects a row an image while testing."""

    def __init__(self, images: Images, classes: Sequence[str]) -> None:
        self.images = images
        self.classes = classes
        self.rows: list[tuple[Any, ...]] = []

    def on_test_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        probabilities, predicted = outputs.softmax(dim=1).max(dim=1)
        columns = (batch.examples, batch.labels, predicted, probabilities)
        for example, label, guess, probability in zip(*(column.tolist() for column in columns), strict=True):
            name = self.images.names[example]
            correct = int(label == guess)
            self.rows.append((name, self.classes[label], self.classes[guess], correct, f"{probability:.6f}"))

    def write(self, path: Path) -> None:
        """Write the rows as csv."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(self.rows)
        write_text(path, text.getvalue())


def evaluate(folder: Path, arguments: Sequence[str]) -> dict[str, float]:
    """Test a run folder's model, write `predictions.csv` there, and return the loss and the accuracy.

    arguments: `key=value` in the place of the run's own, such as `data.root=...`. Raises UserError.
    """
    quieten()
    forget_stale_ranks()
    saved = load_saved(folder, arguments)
    set_threads(saved.config)
    match_classes(saved.data.table, saved.classes, folder)
    predictions = Predictions(saved.data.table.splits["test"], saved.classes)
    # Every image once, on one device, however the run was cut short or spread.
    whole = {"devices": 1, "num_nodes": 1, "strategy": "auto", "limit_test_batches": 1.0, "fast_dev_run": False}
    settings = saved.config["trainer"] | whole
    trainer = build(settings, "trainer", logger=False, callbacks=[KeepHandlers(), predictions], default_root_dir=folder)
    module = TransferModule(saved.method, saved.classes, build(saved.config["optim"], "optim"), saved.config["seed"])
    with torch.no_grad():
        trainer.test(module, datamodule=saved.data, verbose=False)
    predictions.write(folder / "predictions.csv")
    return {name: module.results[f"test/{name}"] for name in ("loss", "accuracy")}


def match_classes(table: Table, classes: Sequence[str], folder: Path) -> None:
    """Give the images to test the class indices that the model knows, by the classes' names.

    Raises UserError for a class that the model was not trained on.
    """
    unknown = [name for name in table.classes if name not in classes]
    if unknown:
        raise UserError(
            f"the data has the class {unknown[0]}, which {folder} was not trained on: it knows {', '.join(classes[:5])}"
            f"{', ...' if len(classes) > 5 else ''}"
        )
    place = [classes.index(name) for name in table.classes]
    images = table.splits["test"]
    images.labels = [place[label] for label in images.labels]

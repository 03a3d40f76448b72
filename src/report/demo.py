"""The demo's table and picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from src.attention.measure import mean_overlap, scene_maps
from src.attention.picture import contact_sheet, overlay, save_png
from src.data.digits import SceneImages
from src.records import Record
from src.training.saved import Saved

SHOWN = 8
"""Test scenes in the picture."""


@dataclass(frozen=True)
class Row:
    """One method of the demo."""

    record: Record
    saved: Saved
    overlap: float
    chance: float


def measure(record: Record, saved: Saved) -> Row:
    """What the table says of one finished run."""
    return Row(record, saved, *mean_overlap(saved.method, saved.data))


def demo_table(rows: Sequence[Row]) -> Table:
    """A row a method: test accuracy, trained parameters, training speed, and where the class token looks."""
    images = rows[0].record.split["test"]
    table = Table(
        "method", "test accuracy", "trained parameters", "of the backbone", "training images/s", "attention on object",
        caption=f"{images} test scenes; trained parameters without the head's {rows[0].record.parameters['head']}; "
        f"uniform attention would put {rows[0].chance:.1%} on the object",
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        record = row.record
        trained = record.parameters["trained"]
        backbone = sum(parameter.numel() for parameter in row.saved.method.backbone.parameters())
        accuracy, speed = record.metrics.get("test/accuracy"), record.cost["images_per_second"]
        table.add_row(
            record.method,
            "diverged" if accuracy is None else f"{accuracy:.1%}",
            f"{trained:,}",
            f"{trained / backbone:.1%}",
            f"{speed:.0f}",
            f"{row.overlap:.1%}",
        )
    return table


def demo_picture(rows: Sequence[Row], path: Path) -> None:
    """Write a picture: the first test scenes, and below each where every method's class token looks in them."""
    images = rows[0].saved.data.table.splits["test"]
    assert isinstance(images, SceneImages)
    scenes = [images.scenes[example] for example in range(SHOWN)]
    sheet: list[tuple[str, list[np.ndarray]]] = [("test scenes", [scene.image for scene in scenes])]
    for row in rows:
        maps, _ = scene_maps(row.saved.method, row.saved.data, range(SHOWN))
        title = f"{row.record.method}\n{row.overlap:.1%} on object"
        tiles = [overlay(scene.image, one.numpy(), scene.mask) for scene, one in zip(scenes, maps, strict=True)]
        sheet.append((title, tiles))
    save_png(contact_sheet(sheet), path)

"""Which cell of a grid is taken, and the file that says so."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from src.records import Record, config_hash, write_text
from src.sweep.plan import Search

FOLDER = "chosen"


def choose(records: Sequence[Record]) -> Record | None:
    """The cell with the best validation accuracy after its last epoch; None if none finished.

    Ties, ordinary among 200 images, go to the smaller learning rate, then to the larger weight decay. A diverged cell
    is never taken.
    """
    finished = [record for record in records if record.status == "finished"]

    def rank(record: Record) -> tuple[float, float, float]:
        accuracy = record.metrics.get("val/accuracy")
        return (-(accuracy or 0.0), record.optim["lr"], -record.optim["weight_decay"])

    return min(finished, key=rank, default=None)


def values(record: Record) -> dict[str, float]:
    """What the final runs take over from a cell."""
    return {"optim.lr": record.optim["lr"], "optim.weight_decay": record.optim["weight_decay"]}


def write_choice(runs: Path, search: Search, chosen: Record, records: Sequence[Record]) -> Path:
    """Write what was chosen, so that `src.train chosen=<file> stage=final` takes it up; where it is.

    One file a search: other cells or other settings make another one.
    """
    names = sorted(record.name for record in records)
    content: dict[str, Any] = {
        **values(chosen),
        "val/accuracy": chosen.metrics.get("val/accuracy"),
        "cell": chosen.name,
        "cells": len(records),
        "diverged": sum(record.status == "diverged" for record in records),
        "experiment": chosen.experiment,
        "task": chosen.task or chosen.dataset,
        "seeds": search.seeds,
    }
    path = runs / FOLDER / f"{search.name}-{config_hash({'cells': names})[:8]}.yaml"
    write_text(path, yaml.safe_dump(content, sort_keys=False))
    return path

"""Loggers beside metrics.csv, each built for one run."""

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from src.records import Record, UserError, config_hash


def tensorboard(folder: Path) -> Logger:
    """TensorBoard events in `<run folder>/tensorboard`."""
    # TensorBoard's own switch: a module of this name keeps it from loading TensorFlow wherever that is installed.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))
    return TensorBoardLogger(save_dir=folder, name="", version="tensorboard")


def wandb(
    folder: Path, record: Record, project: str = "toast", entity: str | None = None, offline: bool = False
) -> Logger:
    """One W&B run a record, with the same id whenever it goes on, grouped and tagged by method, data set and seed.

    Everything that W&B writes goes into `<run folder>/wandb`. Raises UserError if the package is missing.
    """
    place = folder / "wandb"
    place.mkdir(parents=True, exist_ok=True)
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        os.environ[name] = str(place)
    dataset = record.task or record.dataset
    try:
        from lightning.pytorch.loggers import WandbLogger

        return WandbLogger(
            name=record.name,
            id=config_hash({"name": record.name})[:16],
            resume="allow",
            project=project,
            entity=entity,
            offline=offline or os.environ.get("WANDB_MODE") == "offline",
            save_dir=folder,
            group=f"{record.method}-{dataset}",
            tags=[record.method, dataset, f"seed {record.seed}", record.stage, *record.marks],
            log_model=False,
        )
    except ModuleNotFoundError:
        raise UserError(
            "logger=wandb needs the package wandb; install it with: pip install 'toast-transfer[wandb]'"
        ) from None


def is_wandb(logger: Any) -> bool:
    """Whether a logger is W&B's, without importing W&B for the sake of the question."""
    return type(logger).__name__ == "WandbLogger"


def log_record(logger: Any, record: Record, summary: bool) -> None:
    """Give a logger the record: its settings as hyperparameters, and at the end its figures as W&B's summary."""
    settings: dict[str, Any] = {
        key: value for key, value in vars(record).items() if key not in ("metrics", "cost", "status", "error")
    }
    logger.log_hyperparams(settings)
    if summary and is_wandb(logger):
        figures = {**record.metrics, **{f"cost/{name}": value for name, value in record.cost.items()}}
        logger.experiment.summary.update(figures | {"status": record.status, "error": record.error})
    elif summary:
        logger.log_metrics({name: float(value) for name, value in record.metrics.items() if value is not None})


def finish(loggers: list[Logger], status: str) -> None:
    """Close every logger, also after an error, so that no run stays open on a server."""
    for logger in loggers:
        logger.finalize(status)
        if is_wandb(logger):
            import wandb as package

            package.finish(exit_code=0 if status == "success" else 1)

"""Loggers beside metrics.csv, each built for one run."""

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from src.config.build import build
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

    Everything that W&B writes goes into `<run folder>/wandb`. What starts over takes the place of what was logged
    before. Offline there is one folder a record, whole whenever it is synced: of two, the second would replace the
    first on the server; so `replay` enters the earlier epochs again. Raises UserError if the package is missing.
    """
    place = folder / "wandb"
    place.mkdir(parents=True, exist_ok=True)
    offline = offline or os.environ.get("WANDB_MODE") in ("offline", "dryrun")
    if offline:
        for earlier in place.glob("offline-run-*"):
            shutil.rmtree(earlier)
    goes_on = (folder / "checkpoints" / "last.ckpt").is_file()
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        os.environ[name] = str(place)
    dataset = record.task or record.dataset
    try:
        from lightning.pytorch.loggers import WandbLogger

        return WandbLogger(
            name=record.name,
            id=config_hash({"name": record.name})[:16],
            resume="allow" if goes_on else None,
            project=project,
            entity=entity,
            offline=offline,
            save_dir=folder,
            job_type=record.stage,
            group=f"{record.method}-{dataset}",
            tags=[record.method, dataset, f"seed {record.seed}", record.stage, *record.marks],
            log_model=False,
        )
    except ModuleNotFoundError:
        raise UserError(
            "logger=wandb needs the package wandb; install it with: pip install 'toast-transfer[wandb]'"
        ) from None


def open_loggers(nodes: Mapping[str, Any] | None, folder: Path, record: Record) -> list[Logger]:
    """The loggers that a config names."""
    return [build(node, f"logger.{name}", folder=folder, record=record) for name, node in (nodes or {}).items()]


def replay(logger: Any, rows: Iterable[Mapping[str, float]]) -> None:
    """Enter epochs again, rows of metrics.csv, as they were when they ended."""
    for row in rows:
        figures = {name: value for name, value in row.items() if name != "step"}
        logger.log_metrics(figures | {"epoch": row["epoch"] - 1}, step=int(row["step"]) - 1)


def is_offline(logger: Any) -> bool:
    """Whether a logger is W&B's and keeps everything on this machine."""
    return is_wandb(logger) and logger.experiment.offline


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
        figures = {f"final/{name}": float(value) for name, value in record.metrics.items() if value is not None}
        logger.log_metrics(figures, step=record.epochs)


def finish(loggers: list[Logger], status: str) -> None:
    """Close every logger, also after an error, so that no run stays open on a server."""
    for logger in loggers:
        logger.finalize(status)
        if is_wandb(logger):
            import wandb as package

            package.finish(exit_code=0 if status == "success" else 1)

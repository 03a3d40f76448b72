"""Loggers beside metrics.csv, each built for one run."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from src.config.build import build
from src.records import Record, UserError, config_hash
from src.training.console import log

PLACES = ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR")
"""Where W&B would write below the home folder."""
OF_SWEEPS = ("WANDB_SWEEP_ID", "WANDB_RUN_ID")
"""Left in a shell by W&B's own sweeps, they would take the place of a record's id."""
ANEW = "written_anew"


def tensorboard(folder: Path) -> Logger:
    """TensorBoard events in `<run folder>/tensorboard`, written anew whenever the run goes on; see `replay`."""
    # TensorBoard's own switch: a module of this name keeps it from loading TensorFlow wherever that is installed.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    logger = TensorBoardLogger(save_dir=folder, name="", version="tensorboard")
    setattr(logger, ANEW, True)
    return logger


def wandb(
    folder: Path, record: Record, project: str = "toast", entity: str | None = None, offline: bool = False
) -> Logger:
    """One W&B run a record, with the same id whenever it goes on, grouped and tagged by method, data set and seed.

    Everything that W&B writes goes into `<run folder>/wandb`. What starts over takes the place of what was logged
    before. Offline there is one folder a record, whole whenever it is synced: of two, the second would replace the
    first on the server; so `replay` enters the earlier epochs again. Raises UserError if the package is missing, or
    W&B cannot be reached.
    """
    place = folder / "wandb"
    place.mkdir(parents=True, exist_ok=True)
    offline = offline or os.environ.get("WANDB_MODE") in ("offline", "dryrun")
    if offline:
        for earlier in place.glob("offline-run-*"):
            shutil.rmtree(earlier)
    goes_on = (folder / "checkpoints" / "last.ckpt").is_file()
    for name in OF_SWEEPS:
        os.environ.pop(name, None)
    for name in PLACES:
        os.environ.setdefault(name, str(Path(tempfile.gettempdir()) / f"wandb-{os.getuid()}"))
    dataset = record.task or record.dataset
    try:
        import wandb as package
        from lightning.pytorch.loggers import WandbLogger

        logger = WandbLogger(
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
            settings=package.Settings(silent=True, console="off"),
        )
    except ModuleNotFoundError:
        raise UserError(
            "logger=wandb needs the package wandb; install it with: pip install 'toast-transfer[wandb]'"
        ) from None
    try:
        started = logger.experiment
    except Exception as error:  # of many kinds: no key, no network, a server that refuses
        with contextlib.suppress(Exception):
            package.teardown()
        raise UserError(
            f"logger=wandb cannot start ({plain(error)}); see to the network and to wandb login, or keep it on this "
            "machine with logger.wandb.offline=true"
        ) from error
    setattr(logger, ANEW, offline)
    log.info(f"W&B: wandb sync '{Path(started.dir).parent}'" if offline else f"W&B: {started.url}")
    return logger


def plain(error: Exception) -> str:
    """An exception's words in one line."""
    return " ".join(str(error).split())[:300]


def open_loggers(nodes: Mapping[str, Any] | None, folder: Path, record: Record) -> Iterator[Logger]:
    """The loggers that a config names, one by one: where one cannot start, those before it still have to be closed."""
    for name, node in (nodes or {}).items():
        yield build(node, f"logger.{name}", folder=folder, record=record)


def replay(logger: Any, rows: Iterable[Mapping[str, float]]) -> None:
    """Enter epochs again, rows of metrics.csv, as they were when they ended."""
    for row in rows:
        figures = {name: value for name, value in row.items() if name != "step"}
        logger.log_metrics(figures | {"epoch": row["epoch"] - 1}, step=int(row["step"]) - 1)


def is_anew(logger: Any) -> bool:
    """Whether a logger has removed what it wrote before the run went on."""
    return bool(getattr(logger, ANEW, False))


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


def finish(loggers: Iterable[Logger], record: Record | None, status: str) -> None:
    """Close every logger, also after an error, so that no run stays open on a server.

    record: for the summary; None where the run did not end, or has become another process's. What a logger cannot send
    is said, and costs no run.
    """
    for logger in loggers:
        try:
            if record is not None:
                log_record(logger, record, summary=True)
            logger.finalize(status)
            if is_wandb(logger):
                import wandb as package

                package.finish(exit_code=1 if status == "failed" else 0)
        except Exception as error:
            log.warning(f"a logger could not be closed ({plain(error)})")

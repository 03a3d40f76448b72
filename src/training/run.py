"""One run, from config to record."""

import logging
import shutil
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch.loggers import Logger

from src.config.build import build
from src.config.saved import OF_MULTIRUNS
from src.data.table import SPLITS
from src.records import Claim, Lost, Record, UserError, environment, read_record, write_text
from src.training.callbacks import History, ProgressBar, Stopwatch, device_name
from src.training.console import collecting, log, quieten, silent, speaking
from src.training.frozen_cache import fill
from src.training.loggers import finish, log_record, open_loggers
from src.training.module import Diverged, TransferModule
from src.training.parts import (
    Parts,
    check_config,
    check_trainer,
    flops_per_image,
    load_inputs,
    make_parts,
    run_folder,
    set_threads,
)
from src.training.signals import KeepHandlers, Stopped, signals_first, stopping_on_signals
from src.training.trainer import Trainer, forget_stale_ranks, rank
from src.training.warm import Warm


def run(config: Mapping[str, Any], warm: Warm | None = None) -> Record:
    """Train and test what the config describes, or return the record of the run that already did.

    warm: what runs before this one in the process have loaded. Raises UserError for a mistake that the user can mend,
    Busy where another process is at the run, Lost where one has taken it over, Stopped after a signal. A loss that is
    not finite is a result: the record says `diverged`.
    """
    quieten()
    forget_stale_ranks()
    with stopping_on_signals():
        check_config(config)
        set_threads(config)
        check_trainer(config)
        with collecting() as said:
            parts = make_parts(config, warm)
        folder = run_folder(config, parts.record)
        with ExitStack() as stack:
            # Before the claim, which a folder that may only be read does not allow; and after it, since it may be late.
            done = finished(config, folder)
            before_writing: Callable[[], None] = do_nothing
            if done is None and rank() == 0:
                before_writing = stack.enter_context(Claim(folder)).require
                done = finished(config, folder)
            if done is not None:
                stack.enter_context(speaking(None))
                log.info(f"{done.name} is {done.status} already; force=true repeats it")
                return done
            if rank() == 0:
                prepare_folder(config, folder)
            stack.enter_context(speaking(folder) if rank() == 0 else silent())
            for line in said:
                log.handle(line)
            return train(config, parts, folder, before_writing)


def do_nothing() -> None:
    """What a process that writes nothing asks before it writes."""


def is_current(config: Mapping[str, Any], record: Record, warm: Warm) -> bool:
    """Whether a record of this config is of the weights and the images that are here now."""
    if config["method"].get("init", "random") != "random":
        return False  # its checksum is known once the method is built
    backbone, data = load_inputs(config, warm)
    return record.backbone["sha256"] == backbone.sha256 and record.fingerprint == data.table.fingerprint


def finished(config: Mapping[str, Any], folder: Path) -> Record | None:
    """The record of a run that need not be repeated."""
    if config["force"]:
        return None
    record = read_record(folder)
    return record if record is not None and record.status != "failed" else None


def prepare_folder(config: Mapping[str, Any], folder: Path) -> None:
    """Keep what a run can go on from, remove the rest, and write the config that starts it again."""
    for name in ("result.json", "predictions.csv"):
        (folder / name).unlink(missing_ok=True)
    if config["force"] or config["ckpt"] != "last":
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        (folder / "metrics.csv").unlink(missing_ok=True)
    own = {key: value for key, value in config.items() if key not in OF_MULTIRUNS}
    again = own | {"force": False, "ckpt": "last"}
    write_text(folder / "config.yaml", yaml.safe_dump(again, sort_keys=False, allow_unicode=True))


def train(config: Mapping[str, Any], parts: Parts, folder: Path, before_writing: Callable[[], None]) -> Record:
    """Fit, test once, and write the record. before_writing: raises Lost if another process has the run by now."""
    record = parts.record
    checkpoints = config.get("checkpoints", "keep")
    stopwatch, history = Stopwatch(), History(folder, before_writing, saves=checkpoints != "none")
    loggers: list[Logger] = []
    status = "failed"
    trainer: Trainer | None = None
    try:
        if rank() == 0:
            loggers.extend(open_loggers(config["logger"], folder, record))
        own = [build(node, f"callbacks.{name}") for name, node in (config["callbacks"] or {}).items()]
        trainer = build(
            config["trainer"],
            "trainer",
            logger=loggers or False,
            callbacks=[stopwatch, KeepHandlers(), *own, ProgressBar(stopwatch), history],
            default_root_dir=folder,
        )
        for logger in loggers:
            log_record(logger, record, summary=False)
        module = TransferModule(parts.method, parts.data.table.classes, build(config["optim"], "optim"), config["seed"])
        with signals_first():
            fit_and_test(config, parts, trainer, module, history, folder)
        status = record.status = "finished"
    except Diverged as error:
        status = record.status = "diverged"
        record.error = str(error)
        log.error(f"{record.name} diverged: {error}; lower optim.lr")
    except Stopped as error:
        log.warning(f"stopped by {error}; the same command goes on after the last whole epoch")
        raise
    except Lost:
        status = "lost"
        raise
    except UserError as error:
        record.error = plain(error)
        raise UserError(record.error) from error
    except Exception as error:
        if is_out_of_memory(error):
            record.error = (
                f"out of memory with data.batch_size={record.batch_size}; raise trainer.accumulate_grad_batches "
                "(the same batch in smaller parts) or lower data.batch_size"
            )
            raise UserError(record.error) from error
        record.error = f"{type(error).__name__}: {error}"
        log_traceback()
        raise
    finally:
        if rank() == 0:
            written = None
            try:
                if record.error or status in ("finished", "diverged"):  # else there is nothing to say yet
                    end_record(record, history, stopwatch, trainer, parts)
                    before_writing()
                    record.write(folder)
                    written = record
                    if checkpoints == "running" and status == "finished":
                        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            finally:
                finish(loggers, written, {"finished": "success", "lost": "lost"}.get(status, "failed"))
    return record


def fit_and_test(
    config: Mapping[str, Any], parts: Parts, trainer: Trainer, module: TransferModule, history: History, folder: Path
) -> None:
    """Train to the last epoch, going on from a checkpoint if there is one, then read the test split once."""
    record = parts.record
    if parts.not_cached is None:
        fill(config, parts.data, parts.backbone, parts.method, trainer.strategy.root_device, splits_of(record))
    module.frozen()  # before a precision of trainer.precision=...-true converts the weights
    checkpoint = folder / "checkpoints" / "last.ckpt"
    resumes = config["ckpt"] == "last" and checkpoint.is_file()
    sizes = record.parameters
    log.info(
        f"{record.name}: {record.split['train']} images, "
        f"{sizes['trained']:,} + {sizes['head']:,} (head) trained parameters"
    )
    if parts.not_cached:
        log.info(f"frozen cache: off, {parts.not_cached}")
    log.info(f"going on from {checkpoint}" if resumes else f"starting; results go to {folder}")
    trainer.fit(module, datamodule=parts.data, ckpt_path=str(checkpoint) if resumes else None, weights_only=True)
    if trainer.global_step == 0:
        raise UserError("no optimiser step was taken; check trainer.limit_train_batches and the training split")
    if record.stage != "tune" and parts.data.table.splits["test"].labels:
        trainer.test(module, datamodule=parts.data, verbose=False)
        log.info(f"test accuracy {module.results['test/accuracy']:.2%} of {module.results['test/images']} images")
    record.epochs = len(history.rows)
    last = history.rows[-1]
    best, epoch = history.best()
    record.metrics = {
        name: last[name] for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy") if name in last
    }
    record.metrics |= {
        f"test/{name}": module.results[f"test/{name}"]
        for name in ("loss", "accuracy")
        if f"test/{name}" in module.results
    }
    record.metrics |= {"val/accuracy_best": best, "val/accuracy_best_epoch": epoch}


def splits_of(record: Record) -> list[str]:
    """The splits that a run will read."""
    return ["train", "val"] if record.stage == "tune" else list(SPLITS)


def end_record(record: Record, history: History, stopwatch: Stopwatch, trainer: Trainer | None, parts: Parts) -> None:
    """Enter what a run cost and what it ran on."""
    record.cost = stopwatch.cost() | {"training_flops_per_image": flops_per_image(parts)}
    if trainer is not None:
        record.environment = environment(device_name(trainer))
        record.devices = history.parts
        record.threads = torch.get_num_threads()


def plain(error: UserError) -> str:
    """A UserError's sentence; a loader's worker wraps it into its own traceback."""
    return str(error).strip().rpartition("UserError: ")[2]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception means that memory ran out, on a GPU or here."""
    words = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)
    )


def log_traceback() -> None:
    """Put a bug's traceback into run.log; the terminal gets it from Python itself."""
    for handler in log.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(log.makeRecord(log.name, logging.ERROR, "", 0, traceback.format_exc(), (), None))

"""What a run says: on the terminal, and in its run.log."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console


class Terminal(Console):
    """A rich console that a run outlives: when nobody reads any more (`| head`), it falls silent."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


console = Terminal()
log = logging.getLogger("src")


class ConsoleHandler(logging.Handler):
    """Prints through the console that the progress bar lives on, so that neither tears the other."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


class KeepingHandler(logging.Handler):
    """Prints nothing and keeps every line."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)


def quieten() -> None:
    """Silence what Lightning and torch say about choices that this project has made on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*The number of training batches.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*Trying to infer the `batch_size`.*",
        ".*lr_scheduler.step.*",
        ".*You called `self.log.*no logger configured.*",
        ".*in eval mode.*",
        ".*Checkpoint directory.*exists and is not empty.*",
        ".*`.fit.*ckpt_path.*weights_only.*",
        ".*GPU available but not used.*",
        ".*AMP with fp16 is not supported on CPU.*",
        ".*sync_dist=True.*",
    ):
        warnings.filterwarnings("ignore", message=message)


@contextmanager
def collecting() -> Iterator[list[logging.LogRecord]]:
    """Keep what is said before a run has its folder, to be said again there; said at once if that comes to nothing."""
    handler = KeepingHandler()
    kept = handler.kept
    before, log.handlers = log.handlers, [handler]
    level, propagates = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield kept
    except BaseException:
        for record in kept:
            console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)
        raise
    finally:
        log.handlers = before
        log.setLevel(level)
        log.propagate = propagates


@contextmanager
def silent() -> Iterator[None]:
    """Say nothing: the first device's process speaks for all."""
    log.propagate = False
    before = log.handlers
    log.handlers = [logging.NullHandler()]
    try:
        yield
    finally:
        log.handlers = before


@contextmanager
def speaking(folder: Path | None) -> Iterator[None]:
    """Send the project's log lines to the terminal and, if there is one, to the run folder's run.log."""
    handlers: list[logging.Handler] = [ConsoleHandler()]
    if folder is not None:
        file = logging.FileHandler(folder / "run.log", encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        handlers.append(file)
    log.setLevel(logging.INFO)
    log.propagate = False
    before = log.handlers
    log.handlers = handlers
    try:
        yield
    finally:
        log.handlers = before
        for handler in handlers:
            handler.close()

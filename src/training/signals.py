"""Ctrl-C, SIGTERM and a device's process that dies end a run tidily, once."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen
from types import FrameType
from typing import Any

from lightning.pytorch import Callback

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

children: list[Popen[bytes]] = []
"""The processes that Lightning started beside this one for the run's other devices."""

asked: list[int] = []
"""The signal that asked this process to end."""


class Stopped(BaseException):
    """A signal asked the run to end; `code` is what the process then exits with."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


def stop(number: int, frame: FrameType | None) -> None:
    """Raise Stopped, and let no second signal disturb the way out."""
    asked.append(number)
    # Torch's handler raises for a loader's worker that the same signal has ended, wherever we are on the way out.
    signal.signal(signal.SIGCHLD, do_nothing)
    for other in SIGNALS:
        # Not SIG_IGN, under which Python complains of a second signal that is already on its way.
        signal.signal(other, do_nothing)
    # The other devices' processes write nothing; alive, they would keep this one waiting for its turn to talk to them.
    while children:
        children.pop().kill()
    raise Stopped(number)


def stop_if_asked() -> None:
    """Raise Stopped again: where it struck a destructor or a library's own code, it may have been swallowed."""
    if asked:
        raise Stopped(asked[0])


@contextmanager
def signals_first() -> Iterator[None]:
    """Take an error for the signal that it followed: what breaks on the way out, a loader's worker say, is no fault."""
    try:
        yield
    except Exception:
        stop_if_asked()
        raise


def do_nothing(number: int, frame: FrameType | None) -> None:
    """Let a signal pass."""


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and a closed terminal into Stopped; under nohup a closed terminal stays ignored.

    Within another of its kind it does nothing.
    """
    if signal.getsignal(signal.SIGINT) in (stop, do_nothing):
        yield
        return
    asked.clear()
    heard = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    complains = sys.unraisablehook
    sys.unraisablehook = lambda what: None if asked else complains(what)  # a destructor that a signal struck
    try:
        yield
    finally:
        sys.unraisablehook = complains
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(error: Stopped) -> int:
    """The exit code of a command that was stopped; no second signal disturbs what is left of its way out."""
    for number in SIGNALS:
        signal.signal(number, do_nothing)
    return error.code


def lost_device() -> str | None:
    """One sentence on a device's process that ended before its time, or None."""
    for number, process in enumerate(children, 1):
        if process.poll() not in (None, 0):
            return (
                f"the process of device {number} ended with exit code {process.returncode} before the run did; its own "
                "words stand above, if it had any; the same command goes on after the last whole epoch"
            )
    return None


def watch_devices() -> None:
    """End this process with a sentence once a device's process has died: waiting for it, it might never notice."""
    while children:
        time.sleep(0.2)
        sentence = lost_device()
        if sentence is not None:
            print(f"error: {sentence}", file=sys.stderr, flush=True)
            for process in children:
                process.kill()
            os._exit(2)


class KeepHandlers(Callback):
    """Takes SIGTERM back from Lightning, whose own handler would first wait for the end of the epoch, and watches."""

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        children[:] = getattr(trainer.strategy.launcher, "procs", [])
        signal.signal(signal.SIGTERM, stop)
        threading.Thread(target=watch_devices, daemon=True).start()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        stop_if_asked()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        # Time for the watch to see whether a lost device is behind it, before this process ends by itself.
        if children and not isinstance(exception, Stopped):
            time.sleep(1)
        children.clear()

    def on_test_start(self, trainer: Any, module: Any) -> None:
        signal.signal(signal.SIGTERM, stop)

"""Ctrl-C and SIGTERM end a run tidily, once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen
from types import FrameType
from typing import Any

from lightning.pytorch import Callback

SIGNALS = (signal.SIGINT, signal.SIGTERM)

children: list[Popen[bytes]] = []
"""The processes that Lightning started beside this one for the run's other devices."""


class Stopped(BaseException):
    """A signal asked the run to end; `code` is what the process then exits with."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


def stop(number: int, frame: FrameType | None) -> None:
    """Raise Stopped, and let no second signal disturb the way out."""
    for other in SIGNALS:
        # Not SIG_IGN, under which Python complains of a second signal that is already on its way.
        signal.signal(other, do_nothing)
    # The other devices' processes write nothing; alive, they would keep this one waiting for its turn to talk to them.
    for process in children:
        process.kill()
    raise Stopped(number)


def do_nothing(number: int, frame: FrameType | None) -> None:
    """Let a signal pass."""


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into Stopped.

    A process that was stopped is on its way out: it goes on letting signals pass.
    """
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not do_nothing:
            for number, handler in before.items():
                signal.signal(number, handler)


class KeepHandlers(Callback):
    """Takes SIGTERM back from Lightning, whose own handler would first wait for the end of the epoch."""

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        children[:] = getattr(trainer.strategy.launcher, "procs", [])
        signal.signal(signal.SIGTERM, stop)

    def on_test_start(self, trainer: Any, module: Any) -> None:
        signal.signal(signal.SIGTERM, stop)

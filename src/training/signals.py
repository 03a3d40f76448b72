"""Ctrl-C and SIGTERM end a run tidily, once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning.pytorch import Callback

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asked the run to end; `code` is what the process then exits with."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


def stop(number: int, frame: FrameType | None) -> None:
    """Raise Stopped, and let no second signal disturb the way out."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(number)


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into Stopped."""
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class KeepHandlers(Callback):
    """Takes SIGTERM back from Lightning, whose own handler would first wait for the end of the epoch."""

    def on_fit_start(self, *_: Any) -> None:
        signal.signal(signal.SIGTERM, stop)

    def on_test_start(self, *_: Any) -> None:
        signal.signal(signal.SIGTERM, stop)

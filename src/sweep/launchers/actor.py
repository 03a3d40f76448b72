"""What a Ray worker does, and what the driver knows of it."""

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import Any

from src.sweep.plan import Job
from src.sweep.worker import Outcome, Worker
from src.training.signals import Stopped


class Actor:
    """A warm worker in a process that Ray keeps; its calls run in that process's main thread, where signals arrive."""

    def __init__(self, folder: str) -> None:
        with contextlib.suppress(OSError):  # another machine need not have it
            os.chdir(folder)
        self.worker = Worker()

    def ready(self) -> int:
        """The process, once it is up."""
        return os.getpid()

    def run(self, job: Job) -> Outcome:
        """Run one job. A signal ends the process, tidily."""
        try:
            return self.worker.run(job)
        except Stopped:
            sys.exit(0)  # any other number Ray would report on the terminal


@dataclass
class Place:
    """An actor and what it does.

    ready: what Ray says once it is up. data: what it has loaded. number, result, since: of its job; None while idle.
    """

    actor: Any
    ready: Any
    data: str = ""
    number: int | None = None
    result: Any = None
    since: float = 0.0

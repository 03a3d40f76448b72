"""What a sweep shows while it runs: a live table on a terminal, a line a job elsewhere."""

import os
import time
from pathlib import Path
from statistics import median

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from src.records import Record
from src.sweep.plan import Job
from src.training.console import Terminal

WIDE = 160
"""Columns of what is not read in a terminal."""


class Show:
    """A context manager. total: jobs of the plan, done ones included."""

    def __init__(self) -> None:
        self.console = Terminal(highlight=False)
        if not self.console.is_terminal and "COLUMNS" not in os.environ:
            self.console.width = WIDE
        self.total = 0
        self.ended = self.failures = 0
        self.queued = 0
        self.running: list[str] = []
        self.seconds: list[float] = []
        self.begun = time.monotonic()
        self.best: dict[str, float] = {}
        moves = self.console.is_terminal and not self.console.is_dumb_terminal
        self.live = Live(console=self.console, refresh_per_second=4) if moves else None

    def __enter__(self) -> "Show":
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live is not None:
            self.live.update(Text())
            self.live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False, soft_wrap=True)

    def update(self, queued: int, running: list[str]) -> None:
        """How many jobs wait, and which run."""
        self.queued, self.running = queued, running
        if self.live is not None:
            self.live.update(self.table())

    def done(self, job: Job, record: Record, seconds: float | None) -> None:
        """A job has ended well; seconds: None if it had before."""
        self.ended += 1
        if seconds is not None:
            self.seconds.append(seconds)
        kind = "test" if "test/accuracy" in record.metrics else "val"
        accuracy = record.metrics.get(f"{kind}/accuracy")
        name = f"{record.method}-{record.task or record.dataset}"
        if accuracy is not None and kind == "val":
            self.best[name] = max(accuracy, self.best.get(name, 0.0))
        if self.live is None:
            said = f"{kind} {accuracy:.1%}" if accuracy is not None else record.status
            took = "done before" if seconds is None else f"{seconds:.1f} s"
            self.say(f"[{self.ended + self.failures}/{self.total}] {job.label}: {said} ({took})")

    def failed(self, job: Job, reason: str, given_up: int) -> None:
        """A job has failed. given_up: how many will not be tried again."""
        self.failures += given_up
        self.say(f"failed: {job}: {reason}")

    def chosen(self, name: str, record: Record, path: Path) -> None:
        """A search has ended."""
        accuracy = record.metrics.get("val/accuracy") or 0.0
        rate = f"lr {record.optim['lr']:g}, weight decay {record.optim['weight_decay']:g}"
        self.say(f"{name}: chosen {rate} (val {accuracy:.1%}); {path}")

    def left(self) -> str:
        """Time left, in words."""
        rest = self.total - self.ended - self.failures
        if not self.seconds or not rest:
            return ""
        at_once = max(1, len(self.running))
        return in_words(median(self.seconds) * rest / at_once)

    def table(self) -> Group:
        """The live table."""
        counts = Table.grid(padding=(0, 3))
        counts.add_row("queued", "running", "done", "failed", "time left")
        done = f"{self.ended} of {self.total}"
        counts.add_row(str(self.queued), str(len(self.running)), done, str(self.failures), self.left())
        best = ", ".join(f"{name} {accuracy:.1%}" for name, accuracy in list(self.best.items())[-4:])
        lines = [Text(f"  {label}", overflow="ellipsis", no_wrap=True) for label in self.running[:8]]
        return Group(counts, Text(f"best so far (val): {best}") if best else Text(), *lines)


def in_words(seconds: float) -> str:
    """A length of time: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

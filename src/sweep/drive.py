"""Drives a plan through a launcher: every cell once, searches to their choice, choices to their final runs."""

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from src.records import Record
from src.sweep.choose import choose, values, write_choice
from src.sweep.launchers import Launcher
from src.sweep.plan import Job, Plan, Search
from src.sweep.show import Show
from src.sweep.worker import Outcome
from src.training.signals import stop_if_asked

TRIES = 2
COMMON_FAULT = 3
"""Jobs that fail before any has ended well, after which the rest is left alone: a fault that is common to all."""
AGAIN = 2.0
"""Seconds before a job that another process is at is looked at again."""


@dataclass
class Found:
    """What came of a search, or of a run that belongs to none."""

    search: Search | None
    cells: dict[int, Record] = field(default_factory=dict)
    finals: list[Record] = field(default_factory=list)
    chosen: Record | None = None
    waiting: int = 0
    """Cells of which nothing is known yet."""


@dataclass
class Task:
    """A job on its way."""

    job: Job
    found: Found
    is_cell: bool
    tries: int = 0
    since: float = 0.0


@dataclass
class Result:
    """What came of a plan. failed: jobs and why. stopped: why the rest was left alone, if it was."""

    found: list[Found]
    failed: list[tuple[Job, str]]
    stopped: str = ""


def drive(plan: Plan, launcher: Launcher, runs: Path, show: Show) -> Result:
    """Run everything in a plan that is not done. runs: `paths.runs`."""
    return Driver(plan, launcher, runs, show).drive()


class Driver:
    """The state of a sweep in this process; what must survive it is in the records alone."""

    def __init__(self, plan: Plan, launcher: Launcher, runs: Path, show: Show) -> None:
        self.launcher, self.runs, self.show = launcher, runs, show
        self.tasks: dict[int, Task] = {}
        self.queue: deque[int] = deque()
        self.running: set[int] = set()
        self.elsewhere: dict[int, float] = {}
        self.result = Result([], [])
        self.succeeded = 0
        for search in plan.searches:
            found = Found(search, waiting=len(search.cells))
            self.result.found.append(found)
            if search.cells:
                for job in search.cells:
                    self.add(Task(job, found, is_cell=True))
            else:
                for job in search.finals({}):
                    self.add(Task(job, found, is_cell=False))
        for job in plan.runs:
            found = Found(None)
            self.result.found.append(found)
            self.add(Task(job, found, is_cell=False))
        show.total = len(plan)

    def add(self, task: Task, first: bool = False) -> None:
        """Put a job in line."""
        number = len(self.tasks)
        self.tasks[number] = task
        (self.queue.appendleft if first else self.queue.append)(number)

    def drive(self) -> Result:
        """Until nothing is left."""
        while (self.queue or self.running or self.elsewhere) and not self.result.stopped:
            stop_if_asked()
            self.submit()
            self.show.update(len(self.queue), [self.tasks[number].job.label for number in sorted(self.running)])
            ended = self.launcher.wait(AGAIN)
            if ended is None:
                if not self.running:
                    time.sleep(min(AGAIN, max(0.0, min(self.elsewhere.values(), default=0.0) - time.monotonic())))
                continue
            number, outcome = ended
            self.running.discard(number)
            self.end(number, outcome)
        return self.result

    def submit(self) -> None:
        """Fill the launcher's places, with what another process was at when it is time to look again."""
        now = time.monotonic()
        for number, due in list(self.elsewhere.items()):
            if due <= now:
                del self.elsewhere[number]
                self.queue.append(number)
        while self.queue and len(self.running) < self.launcher.places:
            number = self.queue.popleft()
            self.tasks[number].since = now
            self.running.add(number)
            self.launcher.submit(number, self.tasks[number].job)

    def end(self, number: int, outcome: Outcome) -> None:
        """Take in what came of a job."""
        task = self.tasks[number]
        seconds = time.monotonic() - task.since
        if outcome.busy:
            self.elsewhere[number] = time.monotonic() + AGAIN
            return
        if outcome.record is None:
            self.fail(number, task, outcome.reason)
            return
        self.succeeded += 1
        self.show.done(task.job, outcome.record, seconds if outcome.new else None)
        if task.is_cell:
            task.found.cells[number] = outcome.record
            self.count_off(task.found)
        else:
            task.found.finals.append(outcome.record)

    def fail(self, number: int, task: Task, reason: str) -> None:
        """Try a failed job once more, then list it; give up where all fail alike."""
        task.tries += 1
        if task.tries < TRIES:
            self.show.failed(task.job, f"{reason}; it is tried once more")
            self.queue.append(number)
        else:
            self.result.failed.append((task.job, reason))
            self.show.failed(task.job, reason)
            if task.is_cell:
                self.count_off(task.found)
        failed = sum(task.tries > 0 for task in self.tasks.values())
        if not self.succeeded and failed >= COMMON_FAULT and failed < len(self.tasks):
            self.result.stopped = f"the first {failed} jobs failed, the last with: {reason}; the others are left alone"

    def count_off(self, found: Found) -> None:
        """One cell less to wait for; after the last, choose and go on to the final runs."""
        found.waiting -= 1
        if found.waiting or found.search is None:
            return
        records = [record for _, record in sorted(found.cells.items())]
        found.chosen = choose(records)
        if found.chosen is None:
            self.result.failed.append((found.search.final, "no cell of its grid finished: there is nothing to choose"))
            return
        path = write_choice(self.runs, found.search, found.chosen, records)
        self.show.chosen(found.search.name, found.chosen, path)
        for job in reversed(found.search.finals(values(found.chosen))):
            self.add(Task(job, found, is_cell=False), first=True)

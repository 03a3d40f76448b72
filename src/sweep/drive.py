"""Drives a plan through a launcher: every cell once, searches to their choice, choices to their final runs."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from pathlib import Path

from src.records import Record
from src.sweep.choose import choose, values, write_choice
from src.sweep.launchers import Launcher
from src.sweep.plan import Job, Plan, Search
from src.sweep.show import Show
from src.sweep.worker import Outcome
from src.training.signals import stop_if_asked

TRIES = 2
ALIKE = 3
"""Failures in a row of jobs that differ in seed and cell alone, after which the others like them are left alone."""
EVERYWHERE = 9
"""Failures in a row of any jobs, after which all are left alone: a fault that is common to all."""
AGAIN = 2.0
"""Seconds before a job that another process is at is looked at again."""


@dataclass
class Found:
    """What came of a search, or of a run that belongs to none."""

    search: Search | None
    cells: dict[int, Record] = field(default_factory=dict)
    finals: dict[int, Record] = field(default_factory=dict)
    chosen: Record | None = None
    waiting: int = 0
    """Cells of which nothing is known yet."""

    def tested(self) -> list[Record]:
        """The final runs, in the order of the plan."""
        return [record for _, record in sorted(self.finals.items())]


@dataclass
class Task:
    """A job on its way."""

    job: Job
    found: Found
    is_cell: bool
    tries: int = 0
    looks: int = 0
    """How often another process was found to be at it."""
    since: float = 0.0

    @property
    def group(self) -> str:
        """What it shares with jobs that differ from it in seed and cell alone."""
        return self.job.group or str(self.job)


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
        self.in_a_row: Counter[str] = Counter()
        """Failures since the last run that ended well, by group; of all groups together under no name."""
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

    def add(self, task: Task) -> None:
        """Put a job in line."""
        self.queue.append(len(self.tasks))
        self.tasks[len(self.tasks)] = task

    def drive(self) -> Result:
        """Until nothing is left."""
        while self.queue or self.running or self.elsewhere:
            stop_if_asked()
            if self.result.stopped:  # what runs ends by itself
                self.queue.clear()
                self.elsewhere.clear()
            self.submit()
            self.show.update(
                len(self.queue) + len(self.elsewhere), [self.tasks[number].job.label for number in sorted(self.running)]
            )
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
        while len(self.running) < self.launcher.places and (following := self.next()) is not None:
            self.tasks[following].since = now
            self.running.add(following)
            self.launcher.submit(following, self.tasks[following].job)

    def next(self) -> int | None:
        """Take a job out of the line; not one whose grid is being trained at once by a job that runs."""
        grids = [self.tasks[number].found for number in self.running if self.tasks[number].job.together]
        for number in self.queue:
            if not (self.tasks[number].job.together and any(self.tasks[number].found is grid for grid in grids)):
                self.queue.remove(number)
                return number
        return None

    def end(self, number: int, outcome: Outcome) -> None:
        """Take in what came of a job."""
        task = self.tasks[number]
        seconds = time.monotonic() - task.since
        if outcome.busy:
            if not task.looks:
                self.show.say(f"{task.job.label} waits: {outcome.reason}")
            self.elsewhere[number] = time.monotonic() + min(AGAIN * 2**task.looks, self.launcher.longest_wait)
            task.looks += 1
            return
        if outcome.record is None:
            self.fail(number, task, outcome.reason)
            return
        if outcome.new:
            self.in_a_row[task.group] = self.in_a_row[""] = 0
            if task.job.together and not outcome.along:  # these cannot be trained at once: each for itself, then
                for other in self.queue:
                    if self.tasks[other].found is task.found:
                        self.tasks[other].job = replace(self.tasks[other].job, together=())
        ended = {number: outcome.record}
        for other in list(self.queue):
            record = outcome.along.get(self.tasks[other].job.arguments)
            if record is not None and self.tasks[other].found is task.found:
                self.queue.remove(other)
                ended[other] = record
        for each, record in ended.items():
            self.take(each, record, seconds / len(ended) if outcome.new else None)

    def take(self, number: int, record: Record, seconds: float | None) -> None:
        """Enter a job's record. seconds: that it took, None if it was done before."""
        task = self.tasks[number]
        self.show.done(task.job, record, seconds)
        if task.is_cell:
            task.found.cells[number] = record
            self.count_off(task.found)
        else:
            task.found.finals[number] = record

    def fail(self, number: int, task: Task, reason: str) -> None:
        """Try a failed job once more, then list it; give up on what fails alike."""
        task.tries += 1
        for group in {task.group, ""}:
            self.in_a_row[group] += 1
        if self.in_a_row[""] >= EVERYWHERE and self.queue:
            self.result.stopped = f"{EVERYWHERE} times in a row a job failed, the last with: {reason}; the others wait"
        elif task.tries < TRIES and self.in_a_row[task.group] < ALIKE:
            self.show.failed(task.job, f"{reason}; it is tried once more", 0)
            self.queue.append(number)
            return
        given_up = [number]
        if self.in_a_row[task.group] >= ALIKE:
            like_it = [other for other in self.queue if self.tasks[other].group == task.group]
            given_up += like_it
            reason += f"; {len(like_it)} jobs like it are left alone" if like_it else ""
        self.result.failed.append((task.job, reason))
        self.show.failed(task.job, reason, len(given_up))
        for each in given_up:
            if each != number:
                self.queue.remove(each)
            if self.tasks[each].is_cell:
                self.count_off(self.tasks[each].found)

    def count_off(self, found: Found) -> None:
        """One cell less to wait for; after the last, choose and go on to the final runs."""
        found.waiting -= 1
        if found.waiting or found.search is None:
            return
        records = [record for _, record in sorted(found.cells.items())]
        missing = len(found.search.cells) - len(records)
        found.chosen = None if missing else choose(records)
        if found.chosen is None:
            reason = f"{missing} cells have no record" if missing else "every cell diverged"
            self.result.failed.append((found.search.final, f"{reason}: nothing is chosen and nothing tested"))
            return
        path = write_choice(self.runs, found.search, found.chosen, records)
        self.show.chosen(found.search.name, found.chosen, path)
        finals = found.search.finals(values(found.chosen))
        for job in finals:
            self.add(Task(job, found, is_cell=False))
        self.queue.rotate(len(finals))  # next in line: a task that is begun is ended first

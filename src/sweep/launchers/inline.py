"""In this process, one job after another."""

from collections import deque

from src.sweep.launchers.launcher import Launcher
from src.sweep.plan import Job
from src.sweep.worker import Outcome, Worker
from src.training.parts import check_trainer


class Inline(Launcher):
    """Runs each job when it is waited for; all share one warm worker."""

    def __init__(self) -> None:
        self.worker = Worker()
        self.line: deque[tuple[int, Job]] = deque()

    def check(self, job: Job) -> None:
        super().check(job)
        check_trainer(job.config)

    def submit(self, number: int, job: Job) -> None:
        self.line.append((number, job))

    def wait(self, seconds: float) -> tuple[int, Outcome] | None:
        if not self.line:
            return None
        number, job = self.line.popleft()
        return number, self.worker.run(job)

"""What every launcher does."""

from abc import ABC, abstractmethod

from src.sweep.plan import Job
from src.sweep.worker import Outcome


class Launcher(ABC):
    """Runs jobs that it is handed, as many at once as it has places; a context manager, which ends what still runs."""

    places: int = 1
    spans_machines: bool = False
    """Whether a job may take several machines."""

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @abstractmethod
    def submit(self, number: int, job: Job) -> None:
        """Start a job, or put it in line. number: what `wait` will call it."""

    @abstractmethod
    def wait(self, seconds: float) -> tuple[int, Outcome] | None:
        """One job that has ended, and what came of it; None if none has within so many seconds."""

    def close(self) -> None:  # noqa: B027 - a launcher in this process has nothing to give back
        """End what still runs, and give everything back."""

"""What every launcher does."""

from abc import ABC, abstractmethod

from src.records import UserError
from src.sweep.plan import Job
from src.sweep.worker import Outcome


def devices_on_a_machine(job: Job) -> int:
    """How many devices a job asks for on each machine; 1 where it takes what is there."""
    devices = job.config["trainer"]["devices"]
    return len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdigit() else 1


class Launcher(ABC):
    """Runs jobs that it is handed, as many at once as it has places; a context manager, which ends what still runs."""

    places: int = 1
    longest_wait: float = 30.0
    """Seconds after which a job that another process is at is looked at again, at the latest."""

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def check(self, job: Job) -> None:
        """Raise UserError for a job that would never find what it computes on."""
        nodes = job.config["trainer"]["num_nodes"]
        if nodes > 1:
            raise UserError(
                f"trainer.num_nodes={nodes} in a multirun needs launcher=slurm, which starts a task for each device"
            )

    @abstractmethod
    def submit(self, number: int, job: Job) -> None:
        """Start a job, or put it in line. number: what `wait` will call it."""

    @abstractmethod
    def wait(self, seconds: float) -> tuple[int, Outcome] | None:
        """One job that has ended, and what came of it; None if none has within so many seconds."""

    def close(self) -> None:  # noqa: B027 - a launcher in this process has nothing to give back
        """End what still runs, and give everything back."""

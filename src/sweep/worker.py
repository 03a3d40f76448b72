"""Runs jobs of a sweep one after another in one warm process."""

import gc
from dataclasses import dataclass
from pathlib import Path

from src.records import Busy, Record, UserError
from src.sweep.ledger import Ledger
from src.sweep.plan import Job
from src.training.console import console
from src.training.linear_grid import run_grid
from src.training.run import is_current, run
from src.training.single import run_apart
from src.training.trainer import devices_of, rank
from src.training.warm import Warm


@dataclass(frozen=True)
class Outcome:
    """What came of a job: its record, or why there is none.

    busy: another process is at it. new: it was computed now, and not before.
    """

    record: Record | None = None
    reason: str = ""
    busy: bool = False
    new: bool = True


class Worker:
    """Runs jobs; what they share stays loaded.

    is_one_of_many: whether other processes run the same jobs for the other devices.
    """

    def __init__(self, is_one_of_many: bool = False) -> None:
        self.is_one_of_many = is_one_of_many
        self.warm = Warm()
        self.grids: set[Path] = set()
        """Grids that have been trained at once, by their first cell's place in the ledger."""

    def run(self, job: Job) -> Outcome:
        """Run one job, or return the record of the run that did it. Never raises but for signals."""
        was_quiet, console.quiet = console.quiet, True
        try:
            return self.attempt(job)
        except Busy as error:
            return Outcome(reason=str(error), busy=True)
        except UserError as error:
            return Outcome(reason=str(error))
        except Exception as error:  # a bug in one cell must not end a sweep; its run.log has the traceback
            return Outcome(reason=f"{type(error).__name__}: {error}")
        finally:
            console.quiet = was_quiet
            gc.collect()  # a trainer is a knot of cycles, and holds mapped files

    def attempt(self, job: Job) -> Outcome:
        """Run one job. Raises what goes wrong."""
        ledger = Ledger(Path(job.config["paths"]["runs"]))
        known = None if job.config["force"] else ledger.find(job.config)
        if known is not None and is_current(job.config, known, self.warm):
            return Outcome(known, new=False)
        if job.together and not job.config["force"]:
            grid = ledger.path(job.together[0].config)
            if grid not in self.grids:
                run_grid([one.config for one in job.together], self.warm)  # whatever it leaves undone is done below
                self.grids.add(grid)
        # In this process Lightning would start the whole command again for every further device.
        apart = devices_of(job.config) > 1 and not self.is_one_of_many
        record = run_apart(job.config, job.arguments) if apart else run(job.config, self.warm)
        if rank() == 0:
            ledger.enter(job.config, record)
        return Outcome(record)

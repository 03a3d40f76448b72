"""Runs jobs of a sweep one after another in one warm process."""

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from src.records import Busy, Lost, Record, UserError
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

    busy: another process is at it. broken: what went wrong may be this process's own state. new: it was computed now,
    and not before. along: records of the other cells of its grid, by their arguments, where all were trained at once.
    """

    record: Record | None = None
    reason: str = ""
    busy: bool = False
    broken: bool = False
    new: bool = True
    along: Mapping[tuple[str, ...], Record] = field(default_factory=dict)


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
        except (Busy, Lost) as error:
            return Outcome(reason=str(error), busy=True)
        except UserError as error:
            return Outcome(reason=str(error))
        except Exception as error:  # a bug in one cell must not end a sweep; its run.log has the traceback
            return Outcome(reason=f"{type(error).__name__}: {error}", broken=True)
        finally:
            console.quiet = was_quiet
            gc.collect()  # a trainer is a knot of cycles, and holds mapped files

    def attempt(self, job: Job) -> Outcome:
        """Run one job. Raises what goes wrong."""
        known = self.known(job)
        if known is not None:
            return known
        ledger = Ledger(Path(job.config["paths"]["runs"]))
        along = self.train_together(job, ledger)
        if job.arguments in along:
            return Outcome(along.pop(job.arguments), along=along)
        # In this process Lightning would start the whole command again for every further device.
        apart = devices_of(job.config) > 1 and not self.is_one_of_many
        record = run_apart(job.config, job.arguments) if apart else run(job.config, self.warm)
        if rank() == 0:
            ledger.enter(job.config, record)
        return Outcome(record, along=along)

    def known(self, job: Job) -> Outcome | None:
        """What came of a job that is done, with the weights and the images that are here now; None if it is not."""
        record = None if job.config["force"] else Ledger(Path(job.config["paths"]["runs"])).find(job.config)
        if record is None or not is_current(job.config, record, self.warm):
            return None
        return Outcome(record, new=False)

    def train_together(self, job: Job, ledger: Ledger) -> dict[tuple[str, ...], Record]:
        """Train a job's whole grid at once, where that can be; the records of its cells by their arguments."""
        if not job.together or job.config["force"] or (grid := ledger.path(job.together[0].config)) in self.grids:
            return {}
        records = run_grid([one.config for one in job.together], self.warm) or [None] * len(job.together)
        self.grids.add(grid)
        found = {one.arguments: record for one, record in zip(job.together, records, strict=True) if record}
        for one in job.together:
            if one.arguments in found:
                ledger.enter(one.config, found[one.arguments])
        return found

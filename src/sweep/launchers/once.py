"""What a SLURM job does."""

import os
import time
from dataclasses import dataclass
from typing import Any

from src.records import UserError
from src.sweep.plan import Job
from src.sweep.worker import Outcome, Worker
from src.training.signals import Stopped

INSTALL = "launcher=slurm needs the package submitit; install it with: pip install 'toast-transfer[distributed]'"
GRACE = 60.0
"""Seconds that a job asked to end waits for SLURM's second signal, by which it goes back in line."""
ONE_OF_MANY = ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
"""Variables by which Lightning and `rank` would take a SLURM job's one process for one of several."""


@dataclass(frozen=True)
class Once:
    """What a SLURM job does: one run, in a process of its own, or in one for each of its devices.

    threads: of the CPU, where the config leaves them open.

    Put back in line, it does the same again, and the run goes on from its own last checkpoint.
    """

    job: Job
    threads: int

    def __call__(self) -> Outcome:
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        many = int(os.environ.get("SLURM_NTASKS", 1)) > 1
        if not many:
            for name in ONE_OF_MANY:
                os.environ.pop(name, None)
        try:
            return Worker(is_one_of_many=many).run(self.job)
        except Stopped:
            # SLURM preempts with SIGTERM, and may send the signal that submitit waits for somewhat later.
            if "SLURM_JOB_ID" in os.environ:
                time.sleep(GRACE)
            raise

    def checkpoint(self) -> Any:
        """What submitit puts back in line when the job is preempted or its time is up."""
        return import_submitit().helpers.DelayedSubmission(self)


def import_submitit() -> Any:
    """The package. Raises UserError where it is missing."""
    try:
        import submitit
        import submitit.core.utils
    except ImportError:
        raise UserError(INSTALL) from None
    return submitit

"""Runs a plan in this process, one job after another."""

import subprocess
import sys
from collections.abc import Sequence

from src.records import Record, UserError, read_record
from src.sweep.plan import Job
from src.training.console import console
from src.training.parts import make_parts, run_folder
from src.training.run import run

COMMON_FAULT = 2
"""Jobs that fail at the start, one after another, before the rest is not tried: a fault that is common to all."""


def run_all(jobs: Sequence[Job]) -> tuple[list[Record], list[tuple[Job, str]]]:
    """Run every job; records of those that ended, and those that failed with the reason.

    A failed job is named when it fails and the next one starts; if the first jobs all fail, the rest is left alone.
    """
    records: list[Record] = []
    failed: list[tuple[Job, str]] = []
    for number, job in enumerate(jobs, 1):
        console.print(
            f"job {number} of {len(jobs)}: {' '.join(job.arguments)}", markup=False, highlight=False, soft_wrap=True
        )
        try:
            records.append(run_job(job))
        except (UserError, RuntimeError, OSError, ValueError) as error:
            failed.append((job, str(error)))
            console.print(f"job {number} failed: {error}", highlight=False, markup=False, soft_wrap=True)
            if not records and len(failed) == COMMON_FAULT < len(jobs):
                console.print(
                    f"the first {COMMON_FAULT} jobs failed; the other {len(jobs) - COMMON_FAULT} are left alone"
                )
                break
    return records, failed


def run_job(job: Job) -> Record:
    """One job: here if it computes on one device, else as a process of its own, since DDP starts its command again."""
    trainer = job.config["trainer"]
    if trainer["devices"] in (1, "auto", [0]) and trainer["num_nodes"] == 1:
        return run(job.config)
    done = subprocess.run([sys.executable, "-m", "src.train", *job.arguments])
    if done.returncode not in (0, 3):
        raise RuntimeError(f"its process ended with exit code {done.returncode}")
    record = read_record(run_folder(job.config, make_parts(job.config).record))
    assert record is not None
    return record

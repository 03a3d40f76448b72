"""As SLURM jobs, through submitit."""

import os
import shutil
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal

from src.records import UserError
from src.sweep.launchers.launcher import Launcher, devices_on_a_machine
from src.sweep.launchers.once import Once, import_submitit
from src.sweep.plan import Job
from src.sweep.worker import Outcome, Worker
from src.training.parts import default_threads

PATIENCE = 300.0
"""Seconds after which a preempted job that SLURM has not put back in line is submitted anew."""
POLL = 0.2
STRAGGLERS = 60
"""Seconds after which SLURM ends the tasks of a job's other devices, once one has ended."""


@contextmanager
def without_stderr() -> Iterator[None]:
    """Start processes that say nothing here: submitit's own, ended by Ctrl-C, would print a traceback."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class Slurm(Launcher):
    """Submits every job as a SLURM job of its own, so many at once.

    folder: where submitit keeps its files, on a file system that all machines share. partition, account, qos,
    constraint, timeout_min, gpus_per_node, cpus_per_task, mem_gb: as SLURM knows them. setup: lines of shell before the
    job. jobs_at_once: how many are submitted at a time. cluster: `local` starts processes on this machine and `debug`
    runs jobs in this process, both without any of that; `auto` is SLURM.
    Raises UserError without submitit, and without SLURM where that is asked for.
    """

    longest_wait = 300.0

    def __init__(
        self,
        *,
        folder: str,
        partition: str | None = None,
        timeout_min: int = 240,
        gpus_per_node: int = 1,
        cpus_per_task: int = 8,
        mem_gb: float | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        setup: list[str] | None = None,
        jobs_at_once: int = 16,
        cluster: Literal["auto", "slurm", "local", "debug"] = "auto",
    ) -> None:
        least = {"timeout_min": timeout_min, "cpus_per_task": cpus_per_task, "jobs_at_once": jobs_at_once}
        for name, value in least.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; give at least 1")
        self.kind = "slurm" if cluster == "auto" else cluster
        if self.kind == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise UserError(
                "launcher=slurm finds no SLURM (sbatch, srun) on this machine; start it where there is one, or add "
                "launcher.cluster=local, which runs the jobs as processes of this machine"
            )
        self.submitit = import_submitit()
        self.places = 1 if self.kind == "debug" else jobs_at_once
        self.gpus = gpus_per_node
        self.threads = cpus_per_task if self.kind == "slurm" else default_threads()
        self.jobs: dict[int, Any] = {}
        self.ready: deque[tuple[int, Outcome]] = deque()
        """What needs no waiting: jobs that are done already, and those that SLURM refused."""
        self.worker = Worker()
        self.preempted: dict[int, float] = {}
        self.folder = Path(folder) / "%j"
        self.executor = self.submitit.AutoExecutor(folder=self.folder, cluster=self.kind)
        self.executor.update_parameters(
            name="toast",
            timeout_min=timeout_min,
            gpus_per_node=gpus_per_node or None,
            cpus_per_task=cpus_per_task,
            mem_gb=mem_gb,
            slurm_partition=partition,
            slurm_account=account,
            slurm_qos=qos,
            slurm_constraint=constraint,
            slurm_setup=setup or None,
            slurm_additional_parameters={"requeue": True},
            slurm_srun_args=["--kill-on-bad-exit=1", f"--wait={STRAGGLERS}"],
        )

    def submit(self, number: int, job: Job) -> None:
        with suppress(Exception):  # the job itself will say
            known = self.worker.known(job)  # in line for hours to find that all is done already
            if known is not None:
                self.ready.append((number, known))
                return
        if self.kind == "slurm":
            self.executor.update_parameters(**self.size(job))
        try:
            with without_stderr() if self.kind == "local" else nullcontext():
                self.jobs[number] = self.executor.submit(Once(job, self.threads))
        except (OSError, RuntimeError) as error:
            self.ready.append((number, Outcome(reason=f"SLURM did not take it: {' '.join(str(error).split())}")))

    def check(self, job: Job) -> None:
        if self.kind != "slurm":
            super().check(job)

    def size(self, job: Job) -> dict[str, Any]:
        """The machines that a job asks for, with a task and, where tasks compute on them, a GPU for each device."""
        trainer, tasks = job.config["trainer"], devices_on_a_machine(job)
        gpus = max(self.gpus, tasks) if self.gpus and trainer["accelerator"] != "cpu" else self.gpus
        return {"nodes": trainer["num_nodes"], "tasks_per_node": tasks, "gpus_per_node": gpus or None}

    def wait(self, seconds: float) -> tuple[int, Outcome] | None:
        end = time.monotonic() + seconds
        while not self.ready:
            for number, job in self.jobs.items():
                if job.done():
                    del self.jobs[number]
                    return number, self.collect(job)
                if self.is_dropped(number, job):
                    job.cancel(check=False)  # or it might come back beside the new one
                    del self.jobs[number]
                    return number, Outcome(reason="preempted", busy=True)  # submitted anew, which is no failure
            left = end - time.monotonic()
            if not self.jobs or left <= 0:
                return None
            time.sleep(min(POLL, left))
        return self.ready.popleft()

    def is_dropped(self, number: int, job: Any) -> bool:
        """Whether SLURM has preempted a job and not put it back in line since."""
        if job.state.upper() != "PREEMPTED":
            self.preempted.pop(number, None)
            return False
        return time.monotonic() - self.preempted.setdefault(number, time.monotonic()) > PATIENCE

    def collect(self, job: Any) -> Outcome:
        """What came of a job that has ended."""
        said, state = "", job.state
        # For a result that is on its way through a network file system submitit waits; here it would be for nothing.
        if self.kind != "local" or job.paths.result_pickle.exists():
            try:
                outcome: Outcome = job.task(0).result()
            except self.submitit.core.utils.FailedJobError as error:
                said = f": {str(error).split('-' * 22)[1].strip().splitlines()[-1]}"
            except self.submitit.core.utils.UncompletedJobError:
                pass
            else:
                if outcome.record is not None or outcome.busy:
                    shutil.rmtree(job.paths.folder, ignore_errors=True)
                return outcome
        return Outcome(reason=f"job {job.job_id} ended ({state}) without a result{said}; its log: {job.paths.stderr}")

    def close(self) -> None:
        for job in self.jobs.values():
            job.cancel(check=False)
        end = time.monotonic() + 10
        while self.kind == "local" and time.monotonic() < end and not all(job.done() for job in self.jobs.values()):
            time.sleep(0.05)
        for job in self.jobs.values():
            if self.kind == "local":
                shutil.rmtree(job.paths.folder, ignore_errors=True)
        self.jobs.clear()
        with suppress(OSError):
            self.folder.rmdir()  # the local way leaves an empty folder that is really called %j

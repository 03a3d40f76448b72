"""The SLURM launcher: submitit's local and debug executors, and a stand-in for SLURM's own commands."""

import itertools
import os
import pickle
import signal
import stat
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from lightning.pytorch import Callback

from src.records import UserError, read_record
from src.sweep.drive import drive
from src.sweep.launchers import Launcher
from src.sweep.launchers.once import Once
from src.sweep.launchers.slurm import Slurm
from src.sweep.plan import Job, plan
from src.sweep.show import Show
from src.sweep.worker import Outcome, Worker
from tests.tiny import PATIENCE, arguments, wait_for

SLURM = """#!{python}
import os, shlex, signal, subprocess, sys
from pathlib import Path
name, words, home = Path(sys.argv[0]).name, sys.argv[1:], Path(sys.argv[0]).parent
number = "{number}"

def start():
    env = os.environ | {{"SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "toast"}}
    silent = {{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}}
    line = f"sleep 1; exec bash {{shlex.quote(str(home / 'job.sh'))}}"
    job = subprocess.Popen(["bash", "-c", line], env=env, start_new_session=True, **silent)
    (home / "session").write_text(str(job.pid))

if name == "sbatch":
    (home / "job.sh").write_text(Path(words[0]).read_text())
    start()
    print("Submitted batch job", number)
elif name == "srun":
    asked = dict(line.split("--")[1].split("=", 1) for line in (home / "job.sh").read_text().splitlines()
                 if line.startswith("#SBATCH --") and "=" in line)
    nodes, here = int(asked["nodes"]), int(asked["ntasks-per-node"])
    tasks = nodes * here
    many = {{"SLURM_NTASKS": str(tasks), "SLURM_NTASKS_PER_NODE": str(here), "SLURM_NNODES": str(nodes),
            "SLURM_NODELIST": "127.0.0.1", "SLURM_STEP_NUM_TASKS": str(tasks)}}
    command, started = words[words.index({python!r}):], []
    for task in range(tasks):
        streams = []
        for option in ("--output", "--error"):
            path = words[words.index(option) + 1].replace("%j", number).replace("%t", str(task))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            streams.append(open(path, "a"))
        place = {{"SLURM_PROCID": task, "SLURM_LOCALID": task % here, "SLURM_NODEID": task // here}}
        env = os.environ | many | {{key: str(value) for key, value in place.items()}}
        started.append(subprocess.Popen(command, stdout=streams[0], stderr=streams[1], env=env))
    signal.signal(signal.SIGUSR2, lambda number, frame: [task.send_signal(number) for task in started])
    sys.exit(max(task.wait() for task in started))
elif name == "sacct":
    state = home / "state"
    print("JobID|State|NodeList")
    print(number + "|" + (state.read_text() if state.exists() else "RUNNING") + "|here")
elif name == "scontrol":
    with open(home / "requeued", "a") as file:
        file.write(" ".join(words))
    start()
elif name == "scancel":
    (home / "state").write_text("CANCELLED by 0")
    try:
        os.killpg(int((home / "session").read_text()), signal.SIGKILL)
    except ProcessLookupError:
        pass
"""

NUMBERS = itertools.count(7)
"""Of SLURM jobs: submitit remembers for as long as it is loaded how each ended."""


class StopOnce(Callback):
    """The first run that gets to its second epoch notes its process in a file, and ends or hangs there."""

    def __init__(self, marker: str, hangs: bool = True) -> None:
        self.marker, self.hangs = Path(marker), hangs

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 1 and not self.marker.exists():
            self.marker.write_text(str(os.getpid()))
            if not self.hangs:
                sys.exit(-1)
            time.sleep(3600)


def jobs(runs: Path, *more: str) -> list[Job]:
    return plan([*arguments(runs), "seed=1,2", *more]).runs


def stopping(runs: Path, *more: str) -> Job:
    """A job that stops once."""
    marker = [f"+callbacks.stop._target_={__name__}.StopOnce", f'+callbacks.stop.marker="{runs}.pid"']
    return jobs(runs, *marker, *more)[0]


def ended(launcher: Launcher) -> Outcome:
    """What came of the next job that ends."""
    for _ in range(int(PATIENCE / 2)):
        found = launcher.wait(2)
        if found is not None:
            return found[1]
    raise AssertionError("no job ended")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SLURM's commands, as far as submitit uses them, for one job; the folder with what they note."""
    home = tmp_path / "slurm"
    home.mkdir()
    number = next(NUMBERS)
    for name in ("sbatch", "srun", "sacct", "scontrol", "scancel"):
        (home / name).write_text(SLURM.format(python=sys.executable, number=number))
        (home / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(home), prepend=os.pathsep)
    return home


def test_runs_through_local_processes_and_leaves_no_pickles(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with Slurm(folder=str(runs / ".slurm"), cluster="local", jobs_at_once=2) as launcher:
        result = drive(plan([*arguments(runs), "seed=1,2"]), launcher, runs, Show())
    assert result.failed == [] and [len(found.finals) for found in result.found] == [1, 1]
    assert {read_record(path.parent).seed for path in runs.glob("*/result.json")} == {1, 2}  # type: ignore[union-attr]
    assert not list((runs / ".slurm").iterdir())
    with Slurm(folder=str(runs / ".slurm"), cluster="local", jobs_at_once=2) as launcher:
        launcher.executor = None  # what is done takes no place in line
        again = drive(plan([*arguments(runs), "seed=1,2"]), launcher, runs, Show())
    assert again.failed == [] and [len(found.finals) for found in again.found] == [1, 1]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_debug_runs_in_this_process(tmp_path: Path) -> None:
    with Slurm(folder=str(tmp_path / ".slurm"), cluster="debug") as launcher:
        assert launcher.places == 1
        launcher.submit(5, jobs(tmp_path)[0])
        number, outcome = launcher.wait(1) or (None, Outcome())
    assert number == 5 and outcome.record is not None and outcome.record.status == "finished"


def test_what_goes_back_in_line_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    job = stopping(tmp_path / "torn", "+callbacks.stop.hangs=false")
    once = Once(job, 1)
    with pytest.raises(SystemExit):
        once()
    outcome = pickle.loads(pickle.dumps(once.checkpoint())).result()
    whole = Once(jobs(tmp_path / "whole")[0], 1)().record
    assert outcome.record is not None and whole is not None
    assert outcome.record.metrics == whole.metrics
    tables = [(tmp_path / runs / whole.name / "metrics.csv").read_bytes() for runs in ("torn", "whole")]
    assert tables[0] == tables[1]
    assert "going on from" in (tmp_path / "torn" / whole.name / "run.log").read_text()


def test_a_preempted_job_goes_on_through_slurm(slurm: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    setup = [f"touch {tmp_path / 'set_up'}"]
    with Slurm(folder=str(runs / ".slurm"), partition="gpu", setup=setup, cpus_per_task=1) as launcher:
        launcher.submit(0, stopping(runs))
        os.kill(wait_for(tmp_path / "runs.pid"), signal.SIGUSR2)
        number = launcher.jobs[0].job_id
        outcome = ended(launcher)
    assert outcome.record is not None and outcome.record.status == "finished", outcome.reason
    assert (slurm / "requeued").read_text() == f"requeue {number}"
    assert "going on from" in (runs / outcome.record.name / "run.log").read_text()
    asked = (slurm / "job.sh").read_text()
    for words in ("partition=gpu", "gpus-per-node=1", "cpus-per-task=1", "time=240", "requeue", "signal=USR2@90"):
        assert f"#SBATCH --{words}" in asked
    assert (tmp_path / "set_up").exists()
    assert not (runs / ".slurm" / number).exists()


def test_a_run_over_two_machines_ends_as_on_two_devices_of_one(slurm: Path, tmp_path: Path) -> None:
    ours = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1", "trainer.num_nodes=2"]
    with Slurm(folder=str(tmp_path / "runs" / ".slurm"), cpus_per_task=1) as launcher:
        launcher.submit(0, jobs(tmp_path / "runs", *ours)[0])
        outcome = ended(launcher)
    assert outcome.record is not None and outcome.record.status == "finished", outcome.reason
    asked = (slurm / "job.sh").read_text()
    assert "#SBATCH --nodes=2" in asked and "#SBATCH --ntasks-per-node=1" in asked
    assert outcome.record.devices[0]["processes"] == 2
    apart = (
        Worker().run(jobs(tmp_path / "one", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")[0]).record
    )
    assert apart is not None and apart.name == outcome.record.name
    assert apart.metrics == pytest.approx(outcome.record.metrics, rel=1e-5)


def test_a_job_that_slurm_has_cancelled_says_so(slurm: Path, tmp_path: Path) -> None:
    with Slurm(folder=str(tmp_path / ".slurm")) as launcher:
        launcher.submit(0, jobs(tmp_path)[0])
        job = launcher.jobs[0]
        assert launcher.wait(0) is None
        job.cancel(check=False)
        job._results_timeout_s = 0  # for a file system without delay
        outcome = ended(launcher)
    assert outcome.record is None and "ended (CANCELLED by 0) without a result" in outcome.reason
    assert str(job.paths.stderr) in outcome.reason


def test_a_job_that_slurm_drops_is_submitted_anew(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.sweep.launchers.slurm.PATIENCE", 0.0)
    with Slurm(folder=str(tmp_path / ".slurm")) as launcher:
        launcher.submit(0, jobs(tmp_path)[0])
        (slurm / "state").write_text("PREEMPTED")
        outcome = ended(launcher)
    os.killpg(int((slurm / "session").read_text()), signal.SIGKILL)
    assert outcome.busy and outcome.reason == "preempted"


def test_a_local_job_that_is_cancelled_says_so_and_close_ends_the_others(tmp_path: Path) -> None:
    with Slurm(folder=str(tmp_path / ".slurm"), cluster="local", jobs_at_once=2) as launcher:
        for number, job in enumerate([stopping(tmp_path / "one"), stopping(tmp_path / "other")]):
            launcher.submit(number, job)
        hanging = [psutil.Process(wait_for(tmp_path / f"{name}.pid")) for name in ("one", "other")]
        launcher.jobs[0].cancel()
        outcome = ended(launcher)
        assert outcome.record is None and "without a result; its log: " in outcome.reason
    assert not psutil.wait_procs(hanging, timeout=10)[1]
    assert not list(tmp_path.glob("*/*/claim.json"))


def test_a_submission_that_slurm_refuses_is_a_reason(slurm: Path, tmp_path: Path) -> None:
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'invalid partition specified: gpu' >&2\nexit 1\n")
    with Slurm(folder=str(tmp_path / ".slurm")) as launcher:
        launcher.submit(3, jobs(tmp_path)[0])
        number, outcome = launcher.wait(1) or (None, Outcome())
    assert number == 3 and "invalid partition specified: gpu" in outcome.reason


def test_without_slurm_the_sentence_names_the_local_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for cluster in ("auto", "slurm"):
        with pytest.raises(UserError, match=r"launcher\.cluster=local"):
            Slurm(folder=str(tmp_path), cluster=cluster)  # type: ignore[arg-type]


def test_submitit_that_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install 'toast-transfer\[distributed\]'"):
        Slurm(folder=str(tmp_path), cluster="local")


@pytest.mark.parametrize("wrong", ["timeout_min", "cpus_per_task", "jobs_at_once"])
def test_settings_that_cannot_be_are_refused(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=wrong):
        Slurm(folder=str(tmp_path), **{wrong: 0})  # type: ignore[arg-type]

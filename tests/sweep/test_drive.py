"""Sweeps from their arguments to their summary, in this process and against each other."""

import csv
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback

from src.records import Claim, Lost, Record, UserError, read_record
from src.sweep import worker as worker_module
from src.sweep.choose import choose
from src.sweep.drive import drive
from src.sweep.launchers import Launcher
from src.sweep.plan import Job, plan
from src.sweep.show import Show
from src.sweep.worker import Outcome, Worker
from src.train import main
from src.training.parts import make_parts, run_folder
from src.training.run import run
from src.training.trainer import read_checkpoint
from tests.tiny import TINY, tiny

RECORD = Record(
    name="one", status="finished", experiment=None, stage="tune", method="linear", preset="", options={}, dataset="",
    task=None, split={}, official=True, fingerprint="", backbone={}, init={}, preprocessing={}, seed=0, config_hash="",
    optim={}, epochs=1, batch_size=1, precision="", devices=[], threads=1, marks=[],
)  # fmt: skip
PROJECT = Path(__file__).parents[2]
SEARCH = ["sweep.lr=[0.8,0.1]", "sweep.weight_decay=[0.01,0.0]", "sweep.seeds=[42,44]"]


def words(runs: Path, *more: str, method: str = "linear") -> list[str]:
    """A multirun of tiny runs."""
    return [
        "-m",
        f"experiment=demo/{method}",
        *TINY,
        "backbone.seed=0",
        "method.drop_path=0",
        f"paths.runs={runs}",
        *more,
    ]


def records(runs: Path) -> dict[str, Record]:
    """What a sweep has left, by run."""
    found = {path.parent.name: read_record(path.parent) for path in runs.glob("*/result.json")}
    return {name: record for name, record in found.items() if record is not None}


def test_a_search_ends_in_its_choice_its_finals_and_a_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path, *SEARCH)) == 0
    said = capsys.readouterr().out
    found = records(tmp_path)
    cells = [record for record in found.values() if record.stage == "tune"]
    finals = [record for record in found.values() if record.stage == "final"]
    assert len(cells) == 4 and {record.seed for record in cells} == {0}
    assert len(finals) == 2 and {record.seed for record in finals} == {42, 44}
    assert not any("test/accuracy" in record.metrics for record in cells)
    assert all("test/accuracy" in record.metrics for record in finals)
    best = choose(cells)
    assert best is not None
    assert {record.optim["lr"] for record in finals} == {best.optim["lr"]}
    assert not list(tmp_path.glob("*/checkpoints"))  # cells write none, finals keep none

    (path,) = (tmp_path / "chosen").glob("*.yaml")
    chosen = yaml.safe_load(path.read_text())
    assert (chosen["optim.lr"], chosen["cell"], chosen["cells"]) == (best.optim["lr"], best.name, 4)
    (table,) = (tmp_path / "summaries").glob("*.csv")
    (row,) = csv.DictReader(table.read_text().splitlines())
    accuracies = [record.metrics["test/accuracy"] for record in finals]
    assert float(row["test_accuracy"]) == pytest.approx(sum(map(float, accuracies)) / 2)  # type: ignore[arg-type]
    assert (row["n"], row["chosen_cell"]) == ("2", best.name)
    assert f"as csv: {table}" in said and "chosen lr" in said

    # What is done is not done again, and its files are left alone.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert main(words(tmp_path, *SEARCH)) == 0
    assert capsys.readouterr().out.count("done before") == 6
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")} == before
    # What was chosen is taken up by a run of its own: the final run that there is already.
    own = [word for word in words(tmp_path)[1:] if not word.startswith("sweep")]
    assert main([*own, f"chosen={path}", "stage=final", "seed=44"]) == 0
    assert "is finished already" in capsys.readouterr().out
    assert main([*own, f"chosen={table}"]) == 2


def test_a_dry_run_says_what_is_done_and_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tmp_path, "seed=1,2,3", "dry_run=true")) == 0
    assert "3 jobs, 0 done, 3 left" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert main(words(tmp_path, "seed=1,2")) == 0
    capsys.readouterr()
    assert main(words(tmp_path, "seed=1,2,3", "dry_run=true")) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[:3]] == ["done", "done", "open"]
    assert "3 jobs, 2 done, 1 left; about" in said[3]
    # Needs neither data nor weights.
    arguments = ["-m", "experiment=vtab/lora", "data.task=all", "data.root=/nowhere", f"paths.runs={tmp_path}"]
    assert main([*arguments, "dry_run=true"]) == 0
    assert "627 jobs, 0 done" in capsys.readouterr().out


def cell(lr: float, decay: float, accuracy: float, status: str = "finished") -> Record:
    blank: dict[str, Any] = dict.fromkeys(Record.__dataclass_fields__)
    return Record(**blank | {
        "status": status, "optim": {"lr": lr, "weight_decay": decay}, "metrics": {"val/accuracy": accuracy}
    })  # fmt: skip


def test_the_choice_has_a_total_rule() -> None:
    one, two, three = cell(0.1, 0.0, 0.5), cell(0.05, 0.0, 0.5), cell(0.05, 0.01, 0.5)
    best, wild = cell(1.0, 0.0, 0.6), cell(2.0, 0.0, 0.9, "diverged")
    assert choose([one, two, three]) is three  # the smaller rate, then the larger decay
    assert choose([wild, one, best]) is best
    assert choose([wild]) is None and choose([]) is None


def test_a_diverged_cell_is_a_result_and_never_chosen(tmp_path: Path) -> None:
    words_ = words(tmp_path, "sweep.lr=[1e20,0.8]", "sweep.weight_decay=[0.1]", "sweep.seeds=[1]", method="toast")
    assert main([*words_, "optim.warmup_epochs=0"]) == 0
    found = records(tmp_path).values()
    assert sorted((record.stage, record.status) for record in found) == [
        ("final", "finished"), ("tune", "diverged"), ("tune", "finished"),
    ]  # fmt: skip
    (path,) = (tmp_path / "chosen").glob("*.yaml")
    assert yaml.safe_load(path.read_text())["diverged"] == 1


def test_killed_sweeps_go_on_and_end_as_one_that_was_not(tmp_path: Path) -> None:
    arguments = [*SEARCH, "data.train=120", "trainer.max_epochs=5"]
    assert main(words(tmp_path / "whole", *arguments)) == 0
    expected = {name: record.metrics for name, record in records(tmp_path / "whole").items()}
    command = [sys.executable, "-m", "src.train", *words(tmp_path / "killed", *arguments)]
    chance = random.Random(3)
    for _ in range(3):
        process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(chance.randrange(1, 3)):
            process.stdout.readline()
        time.sleep(chance.random() / 2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: record.metrics for name, record in records(tmp_path / "killed").items()} == expected
    tables = [next((tmp_path / runs / "summaries").glob("*.csv")).read_text() for runs in ("whole", "killed")]
    assert tables[0] == tables[1]


def test_a_hydra_app_of_ones_own_sweeps_alike(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "import hydra\n"
        f"@hydra.main(config_path={str(PROJECT / 'conf')!r}, config_name='train', version_base='1.3')\n"
        "def app(config): raise AssertionError\n"
        "app()\n"
    )
    env = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, str(app), *words(tmp_path / "runs", *SEARCH)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(record.stage for record in records(tmp_path / "runs").values()) == ["final"] * 2 + ["tune"] * 4
    wrong = subprocess.run([*command, "launcher.workers=2"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert wrong.returncode != 0 and "launcher.workers" in wrong.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.py", "runs"]  # nothing of Hydra's own


def test_two_drivers_share_a_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "src.train", *words(tmp_path, *SEARCH, "data.train=200", "trainer.max_epochs=6")]
    both = [
        subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(records(tmp_path)) == 6
    logs = [path.read_text() for path in tmp_path.glob("*/run.log")]
    # Each was computed once, by either.
    assert [log.count("starting; results go to") + log.count("trained at once") for log in logs] == [1] * 6


class SuspendOnce(Callback):
    """The first process that gets to its second epoch says so in a file, and suspends itself."""

    def __init__(self, marker: str) -> None:
        self.marker = Path(marker)

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 1 and not self.marker.exists():
            self.marker.write_text("suspended")
            os.kill(os.getpid(), signal.SIGSTOP)


def test_a_driver_that_wakes_after_its_claim_expired_discards_its_work(tmp_path: Path) -> None:
    marker = [f"+callbacks.stop._target_={__name__}.SuspendOnce", f'+callbacks.stop.marker="{tmp_path / "marker"}"']
    both = words(tmp_path / "runs", "seed=1,2", *marker, method="finetune")
    impatient = (
        "import sys; from src.records import claim; from src.train import main; claim.BEAT = 0.2; sys.exit(main({}))"
    )
    command = [sys.executable, "-c", impatient.format(both)]
    sleeper = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "marker").exists():
        time.sleep(0.05)
    other = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert other.returncode == 0, other.stdout
    files = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.suffix in (".json", ".csv")}
    assert sorted("going on from" in path.read_text() for path in (tmp_path / "runs").glob("*/run.log")) == [
        False,
        True,
    ]
    sleeper.send_signal(signal.SIGCONT)
    said, _ = sleeper.communicate(timeout=60)
    assert sleeper.returncode == 0, said
    assert {path: path.read_bytes() for path in files} == files
    assert said.count("went to another process") == 1 and said.count("(done before)") == 2
    assert main(words(tmp_path / "undisturbed", "seed=1,2", method="finetune")) == 0
    assert [record.metrics for record in records(tmp_path / "runs").values()] == [
        record.metrics for record in records(tmp_path / "undisturbed").values()
    ]


def test_a_full_disk_under_the_ledger_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        if "/.sweep/" in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        assert main(words(tmp_path, *SEARCH)) == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("*/result.json")}
    assert len(before) == 6 and not list((tmp_path / ".sweep").iterdir())
    assert main(words(tmp_path, *SEARCH)) == 0
    assert before == {path: path.read_bytes() for path in tmp_path.glob("*/result.json")}


def test_a_run_of_several_devices_that_another_process_is_at_is_waited_for(tmp_path: Path) -> None:
    several = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=1"]
    (job,) = plan(words(tmp_path, *several)[1:]).runs
    with Claim(run_folder(job.config, make_parts(job.config).record), asks=False):
        outcome = Worker().run(job)
    assert outcome.busy and f"is being computed by process {os.getpid()}" in outcome.reason
    assert Worker().run(job).record is not None


class Noting(Launcher):
    """Four places; says how many it had at once."""

    places = 4

    def __init__(self, together: bool) -> None:
        self.line: deque[int] = deque()
        self.jobs: dict[int, Job] = {}
        self.together, self.most = together, 0

    def submit(self, number: int, job: Job) -> None:
        self.line.append(number)
        self.jobs[number] = job
        self.most = max(self.most, len(self.line))

    def wait(self, seconds: float) -> tuple[int, Outcome]:
        number = self.line.popleft()
        rate = self.jobs[number].config["optim"]["lr"]
        records = {
            one.arguments: replace(RECORD, optim=one.config["optim"], metrics={"val/accuracy": 0.5})
            for one in (self.jobs[number], *self.jobs[number].together)
        }
        record = records.pop(self.jobs[number].arguments)
        assert record.optim["lr"] == rate
        return number, Outcome(record, along=records if self.together else {})


def test_cells_of_a_grid_come_all_at_once_or_side_by_side(tmp_path: Path) -> None:
    for together, submitted in ((True, 1 + 2), (False, 4 + 2)):
        launcher = Noting(together)
        result = drive(plan(words(tmp_path, *SEARCH)[1:]), launcher, tmp_path, Show())
        (found,) = result.found
        assert len(launcher.jobs) == submitted and launcher.most == (2 if together else 3)
        assert found.chosen is not None and len(found.cells) == 4 and len(found.tested()) == 2
        assert found.chosen.optim == {**found.chosen.optim, "lr": 0.1 * 16 / 256, "weight_decay": 0.01}


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "src.train", *words(tmp_path, "seed=1,2,3", "trainer.max_epochs=400")]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("*/metrics.csv")):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped by SIGINT after 0 of 3 jobs; the same command goes on from here" in said


def test_a_warm_run_ends_as_a_fresh_one_bit_for_bit(tmp_path: Path) -> None:
    jobs = plan(words(tmp_path / "warm", "seed=1,2", "optim.lr=0.3,0.1", method="finetune")[1:]).runs
    jobs += plan(words(tmp_path / "warm", "seed=1,2", method="toast")[1:]).runs
    warm = Worker()
    for job in jobs:
        outcome = warm.run(job)
        assert outcome.record is not None, outcome.reason
    for job in (jobs[3], jobs[5]):
        config = {**job.config, "paths": {**job.config["paths"], "runs": str(tmp_path / "fresh")}}
        record = run(config)
        states = [
            read_checkpoint(tmp_path / runs / record.name / "checkpoints" / "last.ckpt")["state_dict"]
            for runs in ("warm", "fresh")
        ]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
        rows = [(tmp_path / runs / record.name / "metrics.csv").read_bytes() for runs in ("warm", "fresh")]
        assert rows[0] == rows[1]


def test_a_failed_job_is_tried_once_more_then_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tries: list[int] = []

    def flaky(config: Any, warm: Any) -> Record:
        tries.append(config["seed"])
        if config["seed"] == 2 and tries.count(2) == 1:
            raise UserError("the first time is the worst")
        if config["seed"] == 3:
            raise RuntimeError("never")
        return run(config, warm)

    monkeypatch.setattr(worker_module, "run", flaky)
    assert main(words(tmp_path, "seed=1,2,3")) == 1
    assert sorted(tries) == [1, 2, 2, 3, 3]
    assert {record.seed for record in records(tmp_path).values()} == {1, 2}
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("failed: ") and said[-2].endswith("RuntimeError: never")
    assert said[-1].startswith("as csv: ")


def test_of_an_incomplete_grid_nothing_is_chosen_until_the_same_command_fills_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(config: Any, warm: Any) -> Record:
        if config["optim"]["weight_decay"] == 0.0:
            raise OSError(5, "Input/output error")
        return run(config, warm)

    search = words(tmp_path, *SEARCH, method="finetune")
    with monkeypatch.context() as disk:
        disk.setattr(worker_module, "run", broken)
        assert main(search) == 1
    assert "2 cells have no record: nothing is chosen and nothing tested" in capsys.readouterr().out
    assert {record.stage for record in records(tmp_path).values()} == {"tune"}
    assert not (tmp_path / "chosen").exists() and not (tmp_path / "summaries").exists()
    assert main(search) == 0
    assert len(records(tmp_path)) == 6


def test_a_fault_that_comes_after_a_success_ends_the_sweep_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tries: list[int] = []

    def broken(config: Any, warm: Any) -> Record:
        tries.append(config["seed"])
        if config["seed"] > 1:
            raise OSError(28, "No space left on device")
        return run(config, warm)

    monkeypatch.setattr(worker_module, "run", broken)
    assert main(words(tmp_path, "seed=range(1,30)")) == 1
    assert tries == [1, 2, 3, 4]
    assert "No space left on device; 27 jobs like it are left alone" in capsys.readouterr().out
    several = ["experiment=" + ",".join(f"demo/{name}" for name in ("toast", "lora", "vpt", "finetune", "linear"))]
    assert main([word for word in words(tmp_path, "seed=2,3,4") if "experiment=" not in word] + several) == 1
    assert len(tries) == 4 + 9
    assert "9 times in a row a job failed" in capsys.readouterr().out


def test_a_fault_of_all_cells_ends_the_sweep_early(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["-m", "experiment=vtab/linear", "data.task=dtd", f"data.root={tmp_path}", f"paths.runs={tmp_path}"]
    assert main([*arguments, "backbone=embedded"]) == 1
    said = capsys.readouterr().out
    assert said.count("is not prepared") == 4 and said.count("; 39 jobs like it are left alone") == 2
    assert "40 cells have no record: nothing is chosen and nothing tested" in said
    assert said.count("failed: ") == 5  # three as they happen, the last and what follows from it at the end


def test_records_of_another_version_and_folders_without_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tmp_path, "seed=1,2,3")) == 0
    one, two, _ = sorted(records(tmp_path).values(), key=lambda record: record.seed)
    path = tmp_path / one.name / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 0}))
    (tmp_path / two.name / "result.json").unlink()
    capsys.readouterr()
    assert main(words(tmp_path, "seed=1,2,3")) == 1
    said = capsys.readouterr().out
    assert "is of schema 0, this version reads 1; remove its folder, and the same command runs it again" in said
    assert read_record(tmp_path / two.name) is not None
    assert main(words(tmp_path, "seed=1,2,3", "dry_run=true")) == 0
    assert "3 jobs, 2 done, 1 left" in capsys.readouterr().out


class Takeover(Callback):
    """Another process takes the run over while this one is suspended, and is quicker."""

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        path = Path(trainer.default_root_dir) / "claim.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"token": "another"}))


def test_a_process_that_lost_its_claim_discards_its_work(tmp_path: Path) -> None:
    config = tiny(tmp_path, "callbacks=default", "++callbacks.own._target_=tests.sweep.test_drive.Takeover")
    with pytest.raises(Lost, match="went to another process"):
        run(config)
    (folder,) = (path for path in tmp_path.iterdir() if not path.name.startswith("."))
    assert not (folder / "result.json").exists() and not (folder / "metrics.csv").exists()
    assert (folder / "claim.json").exists()  # the other one's


def test_a_record_is_published_once(tmp_path: Path) -> None:
    record = run(tiny(tmp_path, "trainer.max_epochs=1"))
    text = (tmp_path / record.name / "result.json").read_text()
    with pytest.raises(Lost, match="has been written by another process"):
        replace(record, seed=9).write(tmp_path / record.name)
    assert (tmp_path / record.name / "result.json").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["launcher=ray"], "launcher=ray is for several runs; add -m"), (["seed=1,2"], "asks for several runs")],
)
def test_what_needs_m_says_so(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(tmp_path)[1:], *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_a_sweep_leaves_no_files_open(tmp_path: Path) -> None:
    assert main(words(tmp_path, "seed=1")) == 0
    before = len(os.listdir("/proc/self/fd"))
    assert main(words(tmp_path, "seed=range(2,8)", "trainer.max_epochs=1")) == 0
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_jobs_on_several_devices_are_processes_of_their_own(tmp_path: Path) -> None:
    several = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=1"]
    assert main(words(tmp_path, "seed=1,2", *several)) == 0
    found = records(tmp_path).values()
    assert sorted(record.seed for record in found) == [1, 2]
    assert all(record.devices[0]["processes"] == 2 for record in found)
    # A mistake in such a job is told in its own words.
    assert main(words(tmp_path, "seed=1", *several, "data.batch_size=1")) == 1

"""A grid of linear probes trained at once: each cell as if it were alone, and one record a cell."""

import csv
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.records import Claim, Record, read_record
from src.sweep.plan import plan
from src.sweep.worker import Worker
from src.training.linear_grid import trains_at_once
from src.training.run import run
from tests.tiny import TINY

GRID = ["sweep.lr=[8.0,0.8,0.1]", "sweep.weight_decay=[0.01,0.0]", "sweep.seeds=[1]"]


def cells(runs: Path, *more: str, method: str = "linear") -> Any:
    words = [f"experiment=demo/{method}", *TINY, "backbone.seed=0", "method.drop_path=0", f"paths.runs={runs}"]
    (search,) = plan([*words, *GRID, *more]).searches
    return search.cells


def rows(folder: Path) -> list[dict[str, float]]:
    lines = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    return [{key: float(value) for key, value in line.items()} for line in lines]


def outcome(worker: Worker, job: Any) -> Record:
    found = worker.run(job)
    assert found.record is not None, found.reason
    return found.record


@pytest.mark.parametrize(
    ("settings", "allowed"), [(["optim.schedule=step"], 1e-5), (["trainer.precision=64-true"], 1e-6)]
)
def test_each_cell_is_what_it_is_alone(settings: list[str], allowed: float, tmp_path: Path) -> None:
    worker = Worker()
    jobs = cells(tmp_path / "grid", *settings, "logger=tensorboard")
    records = [outcome(worker, job) for job in jobs]
    assert len({record.name for record in records}) == 6
    assert len(list((tmp_path / "grid").glob("*/result.json"))) == 6
    for job, record in zip(jobs, records, strict=True):
        alone = run({**job.config, "paths": {**job.config["paths"], "runs": str(tmp_path / "alone")}})
        assert (record.name, record.marks, record.status) == (alone.name, alone.marks, alone.status)
        assert record.metrics.keys() == alone.metrics.keys()
        assert record.metrics["val/accuracy"] == alone.metrics["val/accuracy"]
        for one, other in zip(*(rows(tmp_path / runs / record.name) for runs in ("grid", "alone")), strict=True):
            assert one == pytest.approx(other, rel=allowed)
    logs = [(tmp_path / "grid" / record.name / "run.log").read_text() for record in records]
    assert all("one of 6 cells trained at once" in text for text in logs)
    curves = EventAccumulator(str(tmp_path / "grid" / records[0].name / "tensorboard")).Reload()
    logged = [(event.step, pytest.approx(event.value)) for event in curves.Scalars("train/loss")]
    assert logged == [(row["step"] - 1, row["train/loss"]) for row in rows(tmp_path / "grid" / records[0].name)]


def test_a_diverged_cell_touches_no_other(tmp_path: Path) -> None:
    wild, tame = tmp_path / "wild", tmp_path / "tame"
    records = {}
    for runs, rates in ((wild, "sweep.lr=[1e39,0.8]"), (tame, "sweep.lr=[4.0,0.8]")):
        jobs = cells(runs, rates, "optim.warmup_epochs=0")
        records[runs] = [outcome(worker, job) for worker in [Worker()] for job in jobs]
    assert [record.status for record in records[wild]] == ["diverged", "diverged", "finished", "finished"]
    assert "is not finite in epoch" in str(records[wild][0].error)
    for one, other in zip(records[wild][2:], records[tame][2:], strict=True):
        assert one.metrics == other.metrics and one.name == other.name


@pytest.mark.parametrize("setting", ["+trainer.gradient_clip_val=0.001", "+trainer.max_steps=3"])
def test_what_only_a_trainer_does_is_left_to_it(setting: str, tmp_path: Path) -> None:
    assert cells(tmp_path)[0].together and not cells(tmp_path, setting)[0].together


def test_what_is_done_or_anothers_is_left_alone(tmp_path: Path) -> None:
    worker, jobs = Worker(), cells(tmp_path)
    first = run({**jobs[0].config, "paths": {**jobs[0].config["paths"], "runs": str(tmp_path)}})
    before = (tmp_path / first.name / "result.json").stat().st_mtime_ns
    names = [outcome(Worker(), job).name for job in cells(tmp_path / "names")]
    with Claim(tmp_path / names[2]):
        assert worker.run(jobs[2]).busy
    assert read_record(tmp_path / names[2]) is None
    assert all(read_record(tmp_path / name) is not None for name in names[3:])
    assert outcome(worker, jobs[2]).name == names[2]
    assert (tmp_path / first.name / "result.json").stat().st_mtime_ns == before


def test_only_a_grid_of_probes_trains_at_once(tmp_path: Path) -> None:
    assert cells(tmp_path)[0].together
    assert not cells(tmp_path, method="toast")[0].together
    one, other = (job.config for job in cells(tmp_path)[:2])
    assert trains_at_once([one, other])
    assert not trains_at_once([one])
    assert not trains_at_once([one, {**other, "seed": 5}])
    # Drop path makes the frozen part random: each cell runs by itself.
    job = cells(tmp_path, "method.drop_path=0.1")[0]
    record = outcome(Worker(), job)
    assert "starting; results go to" in (tmp_path / record.name / "run.log").read_text()

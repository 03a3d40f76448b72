"""The commands as processes: signals, kills, exit codes, several devices."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from src.config.compose import compose_config
from src.evaluate import main as evaluate_main
from src.records import read_record
from src.train import main as train_main
from src.training.run import run
from src.training.trainer import read_checkpoint
from tests.tiny import arguments

ROOT = Path(__file__).parents[2]
LONGER = ["data.train=300", "trainer.max_epochs=6", "method.drop_path=0.2"]


def start(runs: Path, *more: str) -> subprocess.Popen[str]:
    """The train command as a process of its own group, from another working folder."""
    command = [sys.executable, "-m", "src.train", *arguments(runs, *more)]
    return subprocess.Popen(
        command, cwd=runs.parent, env=os.environ | {"MASTER_PORT": "1"}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def wait_for(runs: Path, words: str, process: subprocess.Popen[str]) -> None:
    """Wait until the run's log says so."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if any(words in log.read_text() for log in runs.glob("*/run.log")):
            return
        time.sleep(0.02)
    raise AssertionError(f"the run never said {words!r}: {process.communicate()[0]}")


def test_a_run_that_is_killed_and_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = run(compose_config(arguments(tmp_path / "whole", *LONGER)))
    runs = tmp_path / "torn, [runs] = ü"
    for number, (sent, code) in enumerate([(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)], 1):
        process = start(runs, *LONGER, "data.workers=1")
        wait_for(runs, f"epoch {number}/6", process)
        for _ in range(3 if sent == signal.SIGINT else 1):
            os.killpg(process.pid, sent)  # a terminal's Ctrl-C reaches the loader's workers too
        said = process.communicate(timeout=60)[0]
        assert process.returncode == code, said
        assert "Traceback" not in said
        assert read_record(runs / whole.name) is None
        assert ("stopped by" in said) == (code > 0)
    process = start(runs, *LONGER, "ckpt=last")
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    assert "going on from" in said
    assert "\r" not in said
    assert "\x1b" not in said
    record = read_record(runs / whole.name)
    assert record is not None
    assert record.metrics == whole.metrics
    assert (runs / whole.name / "metrics.csv").read_text() == (
        tmp_path / "whole" / whole.name / "metrics.csv"
    ).read_text()
    states = [
        read_checkpoint(r / whole.name / "checkpoints" / "last.ckpt")["state_dict"] for r in (runs, tmp_path / "whole")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """33 images in batches of 16: the last batch has one image, and the second device a stand-in.

    The first epoch ran on one process, which then crashed: a run may go on elsewhere.
    """
    options = ["method.drop_path=0.3", "data.test=21", "data.val=1"]
    alone = run(compose_config(arguments(tmp_path / "one", *options)))
    crash = {"callbacks": {"stop": {"_target_": "tests.training.test_run.StopAfter", "step": 4}}}
    with pytest.raises(RuntimeError, match="crashed"):
        run(compose_config(arguments(tmp_path / "two", *options)) | crash)
    process = start(tmp_path / "two", *options, "trainer.strategy=ddp", "trainer.devices=2")
    said = process.communicate(timeout=180)[0]
    assert process.returncode == 0, said
    record = read_record(tmp_path / "two" / alone.name)
    assert record is not None
    assert [(part["processes"], part["epochs"]) for part in record.devices] == [(1, 1), (2, 2)]
    tables = [
        list(csv.DictReader((tmp_path / runs / alone.name / "metrics.csv").read_text().splitlines()))
        for runs in ("one", "two")
    ]
    for one, two in zip(*tables, strict=True):
        assert (one["step"], one["lr"]) == (two["step"], two["lr"])
        for name in ("train/loss", "val/loss"):
            assert float(one[name]) == pytest.approx(float(two[name]), rel=1e-4)
    accuracy = record.metrics["test/accuracy"]
    assert accuracy is not None
    assert accuracy * 21 == pytest.approx(round(accuracy * 21), abs=1e-9)


def test_a_device_that_dies_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    process = start(
        tmp_path / "runs", "data.train=3000", "trainer.max_epochs=50", "trainer.strategy=ddp", "trainer.devices=2"
    )
    wait_for(tmp_path / "runs", "epoch 1/50", process)
    beside = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "src.train"], capture_output=True, text=True)
    os.kill(int(beside.stdout.split()[-1]), signal.SIGKILL)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 2, said
    assert "error: the process of device 1 ended with exit code -9" in said
    assert "Traceback" not in said


def test_exit_codes_and_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_main(arguments(tmp_path, "trainer.max_epochs=1")) == 0
    assert train_main(arguments(tmp_path, "optim.lr=1e30", "optim.warmup_epochs=0")) == 3
    capsys.readouterr()
    for wrong in ("optim.lr=-1", "experiment=demo/tost", "data.train=0"):
        assert train_main(arguments(tmp_path, wrong)) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
    assert train_main([]) == 0
    assert "python -m src.train" in capsys.readouterr().out


def test_a_run_outlives_who_reads_what_it_prints(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "src.train", *arguments(tmp_path, "trainer.max_epochs=1")]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    (folder,) = tmp_path.iterdir()
    assert "test accuracy" in (folder / "run.log").read_text()


def test_the_evaluate_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs, [x] = ü"
    train_main(arguments(runs, "trainer.max_epochs=1"))
    (folder,) = runs.iterdir()
    assert evaluate_main([f"run={folder}"]) == 0
    said = capsys.readouterr().out
    record = read_record(folder)
    assert record is not None
    assert f"test accuracy {record.metrics['test/accuracy']:.4%}" in said
    assert (folder / "predictions.csv").is_file()
    assert evaluate_main([f"run={tmp_path}/nothing"]) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert evaluate_main([]) == 2

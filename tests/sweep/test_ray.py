"""The Ray launcher, on a real cluster of this machine with two places."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from lightning.pytorch import Callback

from src.records import UserError, read_record
from src.sweep.drive import Result, drive
from src.sweep.launchers import Inline, Launcher
from src.sweep.launchers.cluster import Cluster
from src.sweep.launchers.ray import Ray
from src.sweep.plan import plan
from src.sweep.show import Show
from tests.tiny import arguments, wait_for


class HangOnce(Callback):
    """The first run that gets to its second epoch notes its process in a file and never ends, or ends in a bug."""

    def __init__(self, marker: str, hangs: bool = True) -> None:
        self.marker, self.hangs = Path(marker), hangs

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 1:
            try:
                with self.marker.open("x") as file:
                    file.write(str(os.getpid()))
            except FileExistsError:
                return
            if not self.hangs:
                raise RuntimeError("a sticky error of the device")
            time.sleep(3600)


def hanging(runs: Path) -> list[str]:
    """Arguments by which one job of a sweep hangs, once."""
    return [f"+callbacks.hang._target_={__name__}.HangOnce", f'+callbacks.hang.marker="{runs}.pid"']


def sweep(launcher: Launcher, runs: Path, *more: str) -> tuple[Result, Show]:
    """Four runs through a launcher."""
    show = Show()
    return drive(plan([*arguments(runs), "seed=1,2,3,4", *more]), launcher, runs, show), show


def left(runs: Path) -> dict[str, tuple[Any, bytes]]:
    """The metrics of every run of a folder, and its metrics.csv."""
    found = {}
    for path in runs.glob("*/result.json"):
        record = read_record(path.parent)
        assert record is not None and record.status == "finished"
        found[record.name] = (record.metrics, (path.parent / "metrics.csv").read_bytes())
    return found


def names(result: Result) -> list[str]:
    return sorted(record.name for found in result.found for record in found.tested())


def gone(processes: list[psutil.Process]) -> bool:
    """Whether processes end by themselves."""
    return not psutil.wait_procs(processes, timeout=10)[1]


@pytest.fixture(scope="module")
def launcher() -> Iterator[Ray]:
    with Ray(workers=2) as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, bytes]]:
    """What the same runs leave in this process."""
    runs = tmp_path_factory.mktemp("inline")
    sweep(Inline(), runs)
    assert len(left(runs)) == 4
    return left(runs)


def test_runs_through_ray_end_as_in_this_process(
    launcher: Ray, undisturbed: dict[str, tuple[Any, bytes]], tmp_path: Path
) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    assert launcher.places == 2
    result, _ = sweep(launcher, tmp_path)
    assert names(result) == sorted(undisturbed)
    assert left(tmp_path) == undisturbed
    assert len(launcher.all) == 2
    assert signal.getsignal(signal.SIGTERM) == handler == signal.SIG_DFL
    again, show = sweep(launcher, tmp_path)
    assert names(again) == names(result) and show.ended == 4 and not show.seconds


def test_a_worker_that_is_killed_is_replaced_and_its_job_tried_again(
    launcher: Ray, undisturbed: dict[str, tuple[Any, bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killer = threading.Thread(target=lambda: os.kill(wait_for(Path(f"{tmp_path}.pid")), signal.SIGKILL))
    killer.start()
    result, _ = sweep(launcher, tmp_path, *hanging(tmp_path))
    killer.join()
    assert result.failed == [] and names(result) == sorted(undisturbed)
    assert left(tmp_path) == undisturbed
    said = capsys.readouterr().out
    assert said.count("its worker was lost") == 1 and said.count("it is tried once more") == 1


def test_a_worker_that_hangs_is_replaced_and_its_job_tried_again(
    launcher: Ray, undisturbed: dict[str, tuple[Any, bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(launcher, "timeout", 5.0)
    result, _ = sweep(launcher, tmp_path, *hanging(tmp_path))
    assert result.failed == [] and names(result) == sorted(undisturbed)
    assert left(tmp_path) == undisturbed
    assert capsys.readouterr().out.count("it had not ended after 5 s") == 1
    hung = int(Path(f"{tmp_path}.pid").read_text())
    assert not psutil.pid_exists(hung)


def test_a_worker_in_which_a_bug_struck_is_replaced(
    launcher: Ray, undisturbed: dict[str, tuple[Any, bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, _ = sweep(launcher, tmp_path, *hanging(tmp_path), "+callbacks.hang.hangs=false")
    assert result.failed == [] and left(tmp_path) == undisturbed
    assert capsys.readouterr().out.count("RuntimeError: a sticky error of the device; it is tried once more") == 1
    assert not psutil.pid_exists(int(Path(f"{tmp_path}.pid").read_text()))


def test_after_close_no_process_and_no_file_is_left(launcher: Ray, tmp_path: Path) -> None:
    launcher.submit(0, plan([*arguments(tmp_path), "seed=1", *hanging(tmp_path)]).runs[0])
    wait_for(Path(f"{tmp_path}.pid"))
    processes = psutil.Process().children(recursive=True)
    folder = launcher.cluster.folder
    assert len(processes) > 3 and folder is not None and Path(folder).is_dir()
    launcher.close()
    assert gone(processes)
    assert not Path(folder).exists()
    assert not list(tmp_path.glob("*/claim.json"))


def test_ctrl_c_ends_a_sweep_and_its_cluster(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "src.train", "-m", *arguments(tmp_path / "runs"), *hanging(tmp_path / "runs")]
    process = subprocess.Popen(
        [*command, "seed=1,2", "launcher=ray", "launcher.workers=1"], cwd=tmp_path, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    wait_for(tmp_path / "runs.pid")
    processes = psutil.Process(process.pid).children(recursive=True)
    try:
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130 and "the same command goes on from here" in said, said
    assert "Traceback" not in said
    assert processes and gone(processes)
    assert not list((tmp_path / "runs").glob("*/claim.json"))


def test_what_fits_a_cluster() -> None:
    machine = {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 4.0}}
    ours = Cluster.__new__(Cluster)
    ours.ray = SimpleNamespace(nodes=lambda: [machine, machine | {"Alive": False}, {"Alive": True, "Resources": {}}])
    assert ours.has_gpu()
    assert ours.room({"CPU": 1, "GPU": 1}) == 4
    assert ours.room({"CPU": 0.5, "GPU": 0.1}) == 16
    assert ours.room({"CPU": 1, "GPU": 0.3}) == 8
    assert ours.room({"CPU": 3}) == 2


def test_a_job_that_no_worker_has_the_devices_for_is_refused(tmp_path: Path) -> None:
    ours = Ray.__new__(Ray)
    ours.needs = {"CPU": 1, "GPU": 1}
    for wrong, sentence in (("trainer.devices=4", "needs launcher.gpus=4"), ("trainer.num_nodes=2", "launcher=slurm")):
        with pytest.raises(UserError, match=sentence):
            ours.check(plan([*arguments(tmp_path), "trainer.accelerator=gpu", "seed=1,2", wrong]).runs[0])
    ours.check(plan([*arguments(tmp_path), "trainer.devices=4", "seed=1,2"]).runs[0])


@pytest.mark.parametrize("wrong", [{"gpus": -1}, {"gpus": 1.5}, {"cpus": 0}, {"workers": 0}, {"timeout": 0}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Ray(**wrong)


def test_ray_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'toast-transfer\[distributed\]'"):
        Ray()


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_is_not_there_is_said(form: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = form.format(closed.getsockname()[1])
        with pytest.raises(UserError, match=rf"launcher.address={address}: no Ray cluster answers there"):
            Ray(address=address)

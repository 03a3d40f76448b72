"""Classes from outside the repository, loggers, debug runs, checkpoints at full size."""

import csv
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

import src
from src.config.compose import compose_config
from src.records import UserError, read_record
from src.training.run import run
from src.training.saved import load_saved
from tests.tiny import arguments, tiny

OUTSIDE = '''
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from src.data.digits import DigitScenes
from src.methods import Linear

class BitFit(Linear):
    """Trains the biases and the head."""
    def __init__(self, backbone, num_classes, *, only_norms: bool = False, drop_path: float = 0.0, seed: int = 0):
        super().__init__(backbone, num_classes, drop_path=drop_path, seed=seed)
        self.only_norms = only_norms
        self.train_backbone = True
        self.freeze()

    def trains(self, name):
        return name.startswith("head.") or name.endswith("norm.bias" if getattr(self, "only_norms", False) else ".bias")

class Fewer(DigitScenes):
    """Scenes of two digits."""
    def __init__(self, **common):
        super().__init__(classes=(1, 7), train=20, val=6, test=8, **common)

class Shout(Callback):
    """Leaves a file."""
    def __init__(self, path: str):
        self.path = path
    def on_train_end(self, *_):
        open(self.path, "w").close()

class Mine(CSVLogger):
    """A logger of one's own."""
    def __init__(self, folder):
        super().__init__(save_dir=folder, name="mine", version="")
'''


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "somebodys_module.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("somebodys_module", None)
    return "somebodys_module"


def test_a_method_data_module_callback_and_logger_plug_in_from_the_command_line(tmp_path: Path, outside: str) -> None:
    marker = tmp_path / "was called"
    config = compose_config(
        [
            *[a for a in arguments(tmp_path / "runs") if not a.startswith(("data.", "backbone.architecture"))],
            "method=custom", f"method._target_={outside}.BitFit", "method.name=bitfit", "method.only_norms=true",
            "data=custom", f"data._target_={outside}.Fewer", "data.name=two", "data.batch_size=8",
            f"+callbacks.shout._target_={outside}.Shout", f'+callbacks.shout.path="{marker}"',
            f"+logger.mine._target_={outside}.Mine",
            "optim.lr=0.01", "optim.weight_decay=0", "trainer.max_epochs=2", "backbone.architecture.depth=2",
        ]
    )  # fmt: skip
    record = run(config)
    assert (record.status, record.method, record.dataset) == ("finished", "bitfit", "two")
    assert record.split["train"] == 20
    assert marker.exists()
    folder = tmp_path / "runs" / record.name
    assert (folder / "mine" / "metrics.csv").exists()
    with pytest.raises(UserError, match=rf"repeat .*method\._target_={outside}\.BitFit"):
        src.load(str(folder))
    trusted = [f"method._target_={outside}.BitFit", f"data._target_={outside}.Fewer"]
    assert type(src.load(str(folder), *trusted)[0]).__name__ == "BitFit"


def test_a_wrong_key_of_ones_own_class_is_answered_too(tmp_path: Path, outside: str) -> None:
    with pytest.raises(UserError, match=r"method\.only_norms"):
        compose_config(["method=custom", f"method._target_={outside}.BitFit", "method.name=b", "method.only_norm=1"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_loggers_leave_everything_in_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    config = tiny(tmp_path / "runs", "logger=[wandb,tensorboard]", "logger.wandb.offline=true", "trainer.max_epochs=1")
    record = run(config)
    folder = tmp_path / "runs" / record.name
    assert len(list(folder.glob("wandb/offline-run-*/*.wandb"))) == 1
    assert list(folder.glob("tensorboard/events.*"))
    assert [path for path in home.rglob("*") if path.is_file()] == []
    import wandb

    assert wandb.run is None
    failing = tiny(
        tmp_path / "runs", "logger=wandb", "logger.wandb.offline=true", "optim.lr=1e30", "optim.warmup_epochs=0"
    )
    assert run(failing).status == "diverged"
    assert wandb.run is None
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)


class KillOnce(Callback):
    """Ends the process in its third epoch, as a kill does, unless it is told that this happened."""

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 2 and "KILLED" not in os.environ:
            os._exit(9)


def offline_records(path: Path) -> Iterator[Any]:
    """What an offline W&B file holds: LevelDB's log format after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 2**15 - place % 2**15
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if left < 7 or kind == 0:
            place += left
            continue
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def test_a_killed_offline_run_syncs_as_one_with_every_epoch(tmp_path: Path) -> None:
    more = ["logger=wandb", "logger.wandb.offline=true", f"+callbacks.kill._target_={__name__}.KillOnce"]
    command = [sys.executable, "-m", "src.train", *arguments(tmp_path, *more)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    for more_of_it, code in ({}, 9), ({"KILLED": "1"}, 0):
        done = subprocess.run(command, env=environment | more_of_it, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
    (file,) = tmp_path.glob("*/wandb/offline-run-*/*.wandb")
    found = list(offline_records(file))
    (started,) = (record.run for record in found if record.HasField("run"))
    assert started.run_group == "toast-scenes" and {"toast", "scenes", "seed 42"} <= set(started.tags)
    steps = [
        {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.HasField("history")
    ]
    losses = {step["epoch"]: step["train/loss"] for step in steps if "train/loss" in step}
    with next(tmp_path.glob("*/metrics.csv")).open() as file_of_rows:
        assert losses == {
            int(row["epoch"]) - 1: pytest.approx(float(row["train/loss"])) for row in csv.DictReader(file_of_rows)
        }
    assert sum("train/loss" in step for step in steps) == 3


def test_debug_runs_stay_out_of_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOAST_RUNS", str(tmp_path))
    shown = [a for a in arguments(tmp_path) if not a.startswith(("paths.runs", "trainer.max_epochs"))]
    fast = run(compose_config([*shown, "debug=fast"]))
    assert fast.epochs == 1
    assert "debug" in fast.marks
    assert read_record(tmp_path / "debug" / fast.name) is not None
    learned = run(
        compose_config(
            [*shown, "debug=overfit", "method=finetune", "optim=adamw", "optim.lr=0.01", "method.drop_path=0"]
        )
    )
    loss = learned.metrics["train/loss"]
    assert loss is not None
    assert loss < 1  # chance is 1.6


def test_lite_on_vit_b_saves_a_twentieth_of_the_whole(tmp_path: Path) -> None:
    """Full-size weights on small images: the size of a checkpoint does not depend on the number of tokens."""
    config = compose_config(
        [
            "experiment=demo/toast_lite", "backbone=random_small", "backbone.name=vit_base_patch16_224",
            "backbone.image_size=32", "~backbone.architecture", "data.train=8", "data.val=2", "data.test=2",
            "data.batch_size=8", "trainer=cpu", "trainer.max_epochs=1", f"paths.runs={tmp_path}",
        ]
    )  # fmt: skip
    record = run(config)
    assert record.parameters["trained"] == 738_048
    folder = tmp_path / record.name
    saved = (folder / "checkpoints" / "last.ckpt").stat().st_size
    module: Any = load_saved(folder).method
    whole = tmp_path / "whole.ckpt"
    trained = {name: value for name, value in module.named_parameters() if name in module.trained()}
    torch.save({"state_dict": module.state_dict(), "momentum": trained}, whole)
    assert saved < 0.05 * whole.stat().st_size

"""Features computed once: the same training as without, under their own key, and off where they cannot be right."""

import csv
import os
import resource
import signal
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.config.compose import compose_config
from src.records import Record, UserError
from src.training.frozen_cache import FOLDER, make_room
from src.training.run import run
from src.training.trainer import read_checkpoint
from tests.tiny import tiny

PLAIN = ["method.drop_path=0", "data.batch_size=12", "trainer.max_epochs=7", "optim.warmup_epochs=0"]  # 21 steps


def trained(config: dict[str, Any]) -> tuple[Record, dict[str, torch.Tensor], list[float]]:
    """A run's record, its trained parameters, and its losses by epoch."""
    record = run(config)
    folder = Path(config["paths"]["runs"]) / record.name
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    weights: dict[str, torch.Tensor] = read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
    return record, weights, [float(row["train/loss"]) for row in rows]


def entries(runs: Path) -> list[Path]:
    return sorted((runs / FOLDER).glob("*"))


@pytest.mark.parametrize("method", ["linear", "toast", "toast_lite", "toast_late"])
@pytest.mark.parametrize(("precision", "allowed"), [("32-true", 1e-5), ("64-true", 1e-10)])
def test_training_is_the_same_with_and_without(method: str, precision: str, allowed: float, tmp_path: Path) -> None:
    settings = [*PLAIN, f"trainer.precision={precision}"]
    cached, weights, losses = trained(tiny(tmp_path / "a", *settings, method=method))
    plain, expected, without = trained(tiny(tmp_path / "b", *settings, "data.cache_frozen=false", method=method))
    assert "frozen cache" in cached.marks and "frozen cache" not in plain.marks
    assert len(entries(tmp_path / "a")) == 3 and not entries(tmp_path / "b")
    np.testing.assert_allclose(losses, without, rtol=allowed)
    for name, value in expected.items():
        assert float((weights[name] - value).abs().max()) <= 10 * allowed * float(value.abs().max()), name
    assert cached.metrics["test/accuracy"] == plain.metrics["test/accuracy"]


def test_a_run_that_reads_the_cache_ends_as_the_one_that_wrote_it(tmp_path: Path) -> None:
    first = trained(tiny(tmp_path, *PLAIN, "backbone.seed=0"))
    written = {path: path.stat().st_ino for path in entries(tmp_path)}
    again = trained(tiny(tmp_path, *PLAIN, "backbone.seed=0", "force=true"))
    assert first[2] == again[2]
    assert all(torch.equal(first[1][name], again[1][name]) for name in first[1])
    assert {path: path.stat().st_ino for path in entries(tmp_path)} == written
    # Another seed of the run trains on the same features.
    run(tiny(tmp_path, *PLAIN, "backbone.seed=0", "seed=7"))
    assert {path: path.stat().st_ino for path in entries(tmp_path)} == written


@pytest.mark.parametrize("change", ["backbone.seed=5", "data.train=30", "method.first_block=1"])
def test_what_changes_the_features_makes_others(change: str, tmp_path: Path) -> None:
    run(tiny(tmp_path, *PLAIN))
    before = set(entries(tmp_path))
    run(tiny(tmp_path, *PLAIN, change))
    assert len(set(entries(tmp_path)) - before) >= 1


@pytest.mark.parametrize(
    ("method", "settings", "reason"),
    [
        ("toast", [], "drop path makes the frozen part random"),
        ("lora", ["method.drop_path=0"], "lora computes little in its frozen part"),
        ("finetune", ["method.drop_path=0"], "finetune computes little"),
        ("toast", ["method.drop_path=0", "data.cache_gb=0.0001"], "more than data.cache_gb=0.0001"),
        ("toast", ["method.drop_path=0", "trainer.precision=bf16-mixed"], "precision=bf16-mixed are not kept"),
    ],
)
def test_it_is_off_with_a_line_and_refused_where_asked_for(
    method: str, settings: list[str], reason: str, tmp_path: Path
) -> None:
    config = tiny(tmp_path, *settings, "trainer.max_epochs=1", method=method)
    if "bf16" not in reason:  # slow on a CPU
        record = run(config)
        assert reason in (tmp_path / record.name / "run.log").read_text()
        assert "frozen cache" not in record.marks
    with pytest.raises(UserError, match=f"data.cache_frozen=true cannot be: .*{reason}"):
        run(tiny(tmp_path, *settings, "data.cache_frozen=true", method=method))


def test_augmented_images_are_not_cached(tmp_path: Path) -> None:
    from tests.cub import make_cub

    root = make_cub(tmp_path / "CUB_200_2011", images=2)
    arguments = ["experiment=fgvc/linear", f"data.root={root}", "data.subset=true", "backbone=embedded"]
    with pytest.raises(UserError, match="the images are augmented"):
        run(compose_config([*arguments, "data.cache_frozen=true", "method.drop_path=0", f"paths.runs={tmp_path}"]))


def test_a_test_split_beyond_the_bound_stays_images(tmp_path: Path) -> None:
    run(tiny(tmp_path / "a", *PLAIN, "data.test=400", "data.cache_gb=0.001", method="toast"))
    assert len(entries(tmp_path / "a")) == 2


def test_the_oldest_features_make_room(tmp_path: Path) -> None:
    for number, name in enumerate(("old", "middle", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.npy").write_bytes(bytes(1000))
        os.utime(tmp_path / name, (number, number))
    make_room(tmp_path, 2500)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["middle", "new"]
    make_room(tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_half_is_removed(tmp_path: Path) -> None:
    here, gone = f".partial-{socket.gethostname()}-{os.getpid()}-a", f".partial-{socket.gethostname()}-{2**22}-b"
    for name in (here, gone, ".partial-elsewhere-7-c", ".partial-elsewhere-7-d"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / ".partial-elsewhere-7-d", (0, 0))
    make_room(tmp_path, 1000)
    assert {path.name for path in tmp_path.iterdir()} == {here, ".partial-elsewhere-7-c"}


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_features_are_computed_again(damage: str, tmp_path: Path) -> None:
    first = trained(tiny(tmp_path, *PLAIN, "backbone.seed=0"))
    for file in (tmp_path / FOLDER).glob("*/first_pass.npy"):
        file.write_bytes(file.read_bytes()[:1000]) if damage == "cut" else file.unlink()
    assert trained(tiny(tmp_path, *PLAIN, "backbone.seed=0", "force=true"))[2] == first[2]


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, hard))
    try:
        with pytest.raises(UserError, match="the frozen cache cannot be written"):
            run(tiny(tmp_path, *PLAIN))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not entries(tmp_path)

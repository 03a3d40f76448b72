"""data.train_on=trainval: train and val together, and nothing is validated on."""

import json
from pathlib import Path

import pytest
import torch

from src.data.digits import DigitScenes
from src.records import UserError
from src.training.run import run
from tests.tiny import tiny


def test_both_splits_are_trained_on() -> None:
    alone, both = (DigitScenes(train=7, val=5, test=3, train_on=on, workers=0) for on in ("train", "trainval"))
    splits, joined = alone.table.splits, both.table.splits
    assert {split: len(images.labels) for split, images in joined.items()} == {"train": 12, "val": 0, "test": 3}
    assert joined["train"].names == [*splits["train"].names, *splits["val"].names]
    assert joined["train"].labels == [*splits["train"].labels, *splits["val"].labels]
    assert torch.equal(joined["train"].pixels(6), splits["train"].pixels(6))
    assert torch.equal(joined["train"].pixels(7), splits["val"].pixels(0))
    assert both.table.fingerprint != alone.table.fingerprint
    assert (alone.preprocessing()["train_on"], both.preprocessing()["train_on"]) == ("train", "trainval")
    with pytest.raises(UserError, match=r"data\.train_on is 'test'; it is train or trainval"):
        DigitScenes(train_on="test")


def test_a_run_without_validation(tmp_path: Path) -> None:
    config = tiny(tmp_path, "data.train_on=trainval", "trainer.max_epochs=2")
    record = run(config)
    assert record.status == "finished"
    assert record.split == {"train": 53, "val": 0, "test": 21}
    assert record.metrics["val/accuracy_best"] is None
    assert "val/accuracy" not in record.metrics
    assert record.metrics["test/accuracy"] is not None
    values = json.loads((tmp_path / record.name / "result.json").read_text())
    assert values["preprocessing"]["train_on"] == "trainval"
    assert record.name != run(tiny(tmp_path, "trainer.max_epochs=2")).name

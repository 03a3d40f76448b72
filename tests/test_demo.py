"""The demo from one command to its table and picture, and the embedded backbone that it stands on."""

import json
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

from src.config.compose import compose_config
from src.demo import METHODS, main
from src.records import read_record

ROOT = Path(__file__).parents[1]


def test_the_demo_ends_in_a_table_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["trainer.max_epochs=1", "data.train=32", "data.val=10", "data.test=20", "trainer.threads=1"]
    assert main([f"paths.runs={tmp_path}", *short]) == 0
    said = capsys.readouterr().out
    assert all(method in said for method in METHODS)
    records = [record for folder in tmp_path.iterdir() if folder.is_dir() and (record := read_record(folder))]
    assert {record.method for record in records} == set(METHODS)
    assert {record.backbone["source"] for record in records} == {"embedded"}
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.width > 800
        assert len(picture.convert("L").histogram()) == 256


def test_the_embedded_backbone_is_small_and_saw_other_digits() -> None:
    path = ROOT / "assets" / "embedded_vit.safetensors"
    assert path.stat().st_size < 8 * 2**20
    with safe_open(path, "pt") as file:
        architecture = json.loads(file.metadata()["architecture"])
    assert architecture == compose_config(["backbone=random_small"])["backbone"]["architecture"]
    pretrained = set(compose_config(["experiment=demo/pretrain"])["data"]["classes"])
    assert not pretrained & set(compose_config(["experiment=demo/toast"])["data"]["classes"])

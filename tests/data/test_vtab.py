"""VTAB's tasks from miniature archives through the real `prepare`: what training reads, and that it trains."""

import contextlib
import csv
import gzip
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from src import prepare as command
from src.config.compose import compose_config
from src.data.vtab.module import Vtab
from src.data.vtab.pack import MANIFEST
from src.data.vtab.tasks import SOURCES, TASKS
from src.records import UserError
from src.training.run import run
from tests.vtab_archives import WRITERS

PROJECT = Path(__file__).parents[2]

# classes, and examples of train, val and test
MINIATURE = {
    "cifar100": (100, 21, 3, 8), "caltech101": (102, 54, 6, 8), "dtd": (47, 24, 8, 8), "flowers102": (102, 24, 8, 8),
    "pets": (37, 19, 5, 8), "svhn": (10, 21, 3, 8), "sun397": (397, 24, 8, 8), "camelyon": (2, 24, 8, 8),
    "eurosat": (10, 24, 8, 8), "resisc45": (45, 24, 8, 8), "retinopathy": (5, 24, 8, 8), "clevr_count": (8, 21, 3, 8),
    "clevr_dist": (6, 21, 3, 8), "dmlab": (6, 24, 8, 8), "kitti_dist": (4, 24, 8, 8), "dspr_loc": (16, 40, 5, 5),
    "dspr_ori": (16, 40, 5, 5), "snorb_azim": (18, 24, 12, 12), "snorb_elev": (9, 24, 12, 12),
}  # fmt: skip


def prepare(archives: Path, root: Path, task: str = "all") -> str:
    """What the command says, on either stream."""
    said = io.StringIO()
    words = ["data=vtab", f"data.task={task}", f"data.root={root}", f"data.archives={archives}", "data.official=false"]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        assert command.main(words) == 0
    return said.getvalue()


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    for write in WRITERS.values():
        write(folder)
    return folder


@pytest.fixture(scope="module")
def root(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    said = prepare(archives, folder)
    assert said.count(" prepared: ") == len(SOURCES)
    assert sorted(os.listdir(folder)) == sorted(SOURCES)
    return folder


def opened(task: str, root: Path, **options: Any) -> Vtab:
    return Vtab(task, str(root), **{"official": False, "stage": "tune", "workers": 0, "image_size": 64} | options)


def split_of(task: str, root: Path, split: str = "test") -> Any:
    return opened(task, root, stage="final" if split == "test" else "tune").table.splits[split]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_opens(task: str, root: Path) -> None:
    classes, *sizes = MINIATURE[task]
    tuned, final = opened(task, root, image_size=224), opened(task, root, stage="final").table
    splits = {**tuned.table.splits, "test": final.splits["test"]}
    assert [len(splits[split].labels) for split in ("train", "val", "test")] == sizes
    names = [name for images in splits.values() for name in images.names]
    assert len(names) == len(set(names))
    assert final.splits["train"].names == [*splits["train"].names, *splits["val"].names]
    assert len(tuned.table.classes) == len(set(tuned.table.classes)) == classes
    assert all(0 <= label < classes for images in splits.values() for label in images.labels)
    for images in splits.values():
        for example in (0, len(images.names) - 1):
            pixels = tuned.transform()(images.pixels(example))
            assert (pixels.shape, pixels.dtype) == ((3, 224, 224), torch.float32)
            assert pixels.amin() >= 0 and 255.001 > pixels.amax() > 1
    assert (final.official, final.marks) == (False, ["own split"] if task == "caltech101" else [])


def test_a_second_call_changes_nothing(archives: Path, root: Path) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in root.rglob("*")}

    before = state()
    said = prepare(archives, root)
    assert said.count("was prepared already, and is whole") == len(SOURCES)
    assert state() == before


def test_labels_are_the_archives(archives: Path, root: Path) -> None:
    eurosat = split_of("eurosat", root)
    classes = opened("eurosat", root).table.classes
    assert [classes[label] for label in eurosat.labels] == [name.rpartition("_")[0] for name in eurosat.names]
    svhn = split_of("svhn", root)
    digits = (np.arange(8) * 7 + 9) % 10 + 1
    assert svhn.labels == [digits[int(name[-6:])] % 10 for name in svhn.names]
    with (archives / "trainLabels.csv").open() as file:
        levels = {row["image"]: int(row["level"]) for row in csv.DictReader(file)}
    eyes = split_of("retinopathy", root, "train")
    assert eyes.labels == [levels[name] for name in eyes.names]
    # clevr_scene's nearest objects in turn: 7.5, 8.0, 8.2, 8.5, 8.7, 9.2, 9.7, 10.0, 10.5
    clevr = split_of("clevr_dist", root, "train")
    assert clevr.labels == [[0, 0, 1, 1, 2, 3, 4, 4, 5][int(name[-10:-4]) % 9] for name in clevr.names]
    counts = split_of("clevr_count", root, "train")
    assert counts.labels == [int(name[-10:-4]) % 8 for name in counts.names]


# Pixels


def raw(archives: Path) -> Iterator[tuple[str, dict[str, NDArray[np.uint8]]]]:
    """(task, images by key) from archives that hold arrays."""
    with tarfile.open(archives / "cifar-100-binary.tar.gz") as tar:
        member = tar.extractfile("cifar-100-binary/test.bin")
        assert member is not None
        rows = np.frombuffer(member.read(), np.uint8).reshape(-1, 3074)
    yield "cifar100", {f"test_{i:05d}": row[2:].reshape(3, 32, 32) for i, row in enumerate(rows)}
    with h5py.File(archives / SOURCES["dsprites"].files[0].name) as file:
        shapes = file["imgs"][:]
    yield "dspr_ori", {f"{i:06d}": np.stack([image * 255] * 3) for i, image in enumerate(shapes)}
    content = gzip.decompress((archives / "smallnorb-5x01235x9x18x6x2x96x96-testing-dat.mat.gz").read_bytes())
    pairs = np.frombuffer(content, np.uint8, offset=8 + 4 * struct.unpack_from("<i", content, 4)[0])
    left = pairs.reshape(-1, 2, 96, 96)[:, 0]
    yield "snorb_elev", {f"test_{i:05d}": np.stack([image] * 3) for i, image in enumerate(left)}


def test_arrays_keep_their_values_and_one_channel_becomes_three(archives: Path, root: Path) -> None:
    for task, expected in raw(archives):
        images = split_of(task, root)
        for example, name in enumerate(images.names):
            np.testing.assert_array_equal(images.pixels(example).numpy(), expected[name], task)
    assert images.pixels(0).unique().tolist() != [0, 255]
    assert split_of("dspr_loc", root).pixels(0).unique().tolist() == [0, 255]


TENSORFLOW = """
import sys
from pathlib import Path
import numpy as np
import tensorflow as tf
for path in Path(sys.argv[1]).iterdir():
    if path.suffix == ".npy":
        pixels = tf.constant(np.load(path))
    else:
        pixels = tf.io.decode_image(path.read_bytes(), channels=3)
    np.savez(path.with_suffix(".npz"), pixels=pixels, resized=tf.image.resize(pixels, (224, 224)))
"""


def test_pixels_are_tensorflows(archives: Path, root: Path, tmp_path: Path) -> None:
    encoded: dict[str, bytes] = {}
    with tarfile.open(archives / "dtd-r1.0.1.tar.gz") as tar:
        for name in split_of("dtd", root).names:
            encoded[name] = tar.extractfile(f"dtd/images/{name}").read()  # type: ignore[union-attr]
    with zipfile.ZipFile(archives / "CLEVR_v1.0.zip") as packed:
        for name in split_of("clevr_dist", root).names:
            encoded[name] = packed.read(f"CLEVR_v1.0/images/val/{name}")
    found: dict[str, Tensor] = {}
    for task in ("dtd", "clevr_dist", "caltech101", "dmlab", "sun397", "kitti_dist", "retinopathy", "pets", "svhn"):
        images = split_of(task, root, "train" if task == "caltech101" else "test")
        grey = [i for i, name in enumerate(images.names) if name == "background_google/image_0001.jpg"]
        for example in [*range(4), *grey]:
            name = f"{task} {example}"
            found[name] = images.pixels(example)
            if task == "svhn":
                np.save(tmp_path / f"{name}.npy", found[name].permute(1, 2, 0).numpy())
                continue
            content = images.pack.content(images.start + example).tobytes()
            assert content == encoded.get(images.names[example], content)
            (tmp_path / f"{name}.image").write_bytes(content)
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", TENSORFLOW, str(tmp_path)], check=True, env=environment, capture_output=True)
    resize = opened("dtd", root, image_size=224).transform()
    for name, pixels in found.items():
        with np.load(tmp_path / f"{name}.npz") as expected:
            np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), expected["pixels"], name)
            resized = resize(pixels).permute(1, 2, 0).numpy()
            np.testing.assert_allclose(resized, expected["resized"], rtol=0, atol=1e-3, err_msg=name)


# Training


def words(root: Path, runs: Path, *more: str) -> list[str]:
    return [
        "experiment=vtab/linear", "backbone=random_small", "backbone.architecture.embed_dim=24",
        "backbone.architecture.depth=3", "trainer=cpu", "trainer.threads=1", "trainer.max_epochs=2",
        "data.batch_size=16", "data.workers=0", "data.task=eurosat", f"data.root={root}", "data.official=false",
        f"paths.runs={runs}", *more,
    ]  # fmt: skip


def test_a_final_run_trains_on_all_and_tests_once(root: Path, tmp_path: Path) -> None:
    record = run(compose_config(words(root, tmp_path, "data.task=caltech101")))
    assert (record.status, record.stage, record.task, record.official) == ("finished", "final", "caltech101", False)
    assert record.split == {"train": 60, "val": 0, "test": 8}
    assert "test/accuracy" in record.metrics and record.metrics.get("val/accuracy") is None
    assert {"own split", "own recipe"} <= set(record.marks)
    assert re.fullmatch("[0-9a-f]{64}", record.preprocessing["examples"])
    assert record.preprocessing["train_on"] == "trainval"


def test_a_tuning_run_validates_and_never_sees_the_test_split(root: Path, tmp_path: Path) -> None:
    record = run(compose_config(words(root, tmp_path, "stage=tune", "optim.lr=0.05", "optim.weight_decay=0.001")))
    assert record.split == {"train": 24, "val": 8, "test": 0}
    assert record.metrics["val/accuracy"] is not None
    assert not [name for name in record.metrics if name.startswith("test/")]
    final = opened("eurosat", root, stage="final").preprocessing()
    assert record.preprocessing["examples"] == final["examples"]  # 800 and 200 are the 1,000


def test_training_never_imports_tensorflow(root: Path, tmp_path: Path) -> None:
    code = """
import sys
from src.train import main
assert main(sys.argv[1:]) == 0
print(sorted({name.partition(".")[0] for name in sys.modules} & {"tensorflow", "tensorflow_datasets", "keras"}))
"""
    arguments = words(root, tmp_path, "logger=[tensorboard]", "trainer.max_epochs=1", "data.workers=1")
    process = subprocess.run([sys.executable, "-c", code, *arguments], cwd=PROJECT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == "[]"


def test_a_worker_reads_what_the_process_reads_and_gets_no_copy_of_the_images(root: Path) -> None:
    alone = next(iter(opened("dspr_loc", root).val_dataloader()))
    module = opened("dspr_loc", root, workers=1)
    images = module.table.splits["val"]
    images.pixels(0)
    size = (root / "dsprites" / "images.bin").stat().st_size
    sent = pickle.dumps(images)
    assert len(sent) < size / 10
    assert torch.equal(pickle.loads(sent).pixels(2), images.pixels(2))
    there = next(iter(module.val_dataloader()))
    assert torch.equal(there.images, alone.images) and torch.equal(there.labels, alone.labels)


def test_train_on_belongs_to_the_stage(root: Path) -> None:
    with pytest.raises(UserError, match=r"data\.train_on is not for data=vtab"):
        opened("dtd", root, train_on="train")
    assert (root / "dtd" / MANIFEST).is_file()

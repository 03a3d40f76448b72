"""Preparing VTAB that is killed, is started twice, meets what it cannot use; and folders that were changed."""

import contextlib
import errno
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.data.prepare import packing, vtab
from src.data.prepare.tfds import Job
from src.data.prepare.vtab import Builder
from src.data.vtab import pack as pack_module
from src.data.vtab.module import Vtab
from src.data.vtab.pack import MANIFEST, Manifest, Writer
from src.data.vtab.tasks import SOURCES
from src.records import Claim, UserError
from tests import vtab_archives
from tests.data.test_prepare_interrupted import die_after
from tests.vtab_formats import encode, picture

PROJECT = Path(__file__).parents[2]
EUROSAT = SOURCES["eurosat"]


def examples(count: int, split: str, **other: Any) -> list[dict[str, Any]]:
    names = [f"River_{split}_{i}.jpg" for i in range(count)]
    return [{"filename": name, "image": encode(picture(name, 16, 16)), "label": 8} | other for name in names]


def write(folder: Path, **other: list[dict[str, Any]]) -> Manifest:
    """EuroSAT's folder of a few examples, without TensorFlow."""
    splits = {"train": examples(6, "train"), "val": examples(2, "val"), "test": examples(3, "test")} | other
    return packing.pack(EUROSAT, splits, list(vtab_archives.EUROSAT), folder, False, [], {})


class Quick(Builder):
    """Packs without building anything."""

    def build(self, job: Job) -> Manifest:
        return write(Path(job.target))


def quick(root: Path, official: bool = False) -> tuple[Manifest, bool]:
    return vtab.prepare_one(EUROSAT, root, root, official, Quick())


def sizes(root: Path) -> list[int]:
    """Of a task that opens, and whose last image is there."""
    splits = Vtab("eurosat", str(root), official=False, stage="final").table.splits
    assert splits["test"].pixels(len(splits["test"].labels) - 1).shape[0] == 3
    return [len(images.labels) for images in splits.values()]


@pytest.mark.parametrize(
    ("place", "name", "calls"),
    [
        (Writer, "add", 0),
        (Writer, "add", 7),
        (os, "fsync", 0),
        (pack_module, "write_text", 0),
        (pack_module, "write_text", 1),
        (os, "rename", 0),
        *[(shutil, "rmtree", calls) for calls in range(4)],
    ],
)
def test_killed_at_any_moment(place: Any, name: str, calls: int, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the threads that a fork leaves behind; there are none that matter
        child = os.fork()
    if child == 0:
        die_after(calls, place, name)
        quick(tmp_path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == signal.SIGKILL
    with contextlib.suppress(UserError):
        assert sizes(tmp_path) == [8, 0, 3]
    quick(tmp_path)
    assert sizes(tmp_path) == [8, 0, 3]
    assert os.listdir(tmp_path) == ["eurosat"]


def alive(group: int) -> bool:
    """Whether any process of the group still runs."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, found = path.read_text().rpartition(") ")[2].split()[:3]
            if int(found) == group and state != "Z":
                return True
    return False


@pytest.mark.slow
def test_the_command_killed_with_and_without_its_builder(tmp_path: Path) -> None:
    archives, root = tmp_path / "archives", tmp_path / "data"
    for builder in ("dsprites", "eurosat"):
        vtab_archives.WRITERS[builder](archives)
    words = [sys.executable, "-m", "src.prepare", "-m", "data=vtab", "data.task=eurosat,dspr_loc",
             f"data.root={root}", f"data.archives={archives}", "data.official=false"]  # fmt: skip
    for whole, wait in ((False, random.uniform(1.0, 2.5)), (True, random.uniform(1.5, 4.0))):
        process = subprocess.Popen(
            words, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(wait)
        if whole:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        end = time.monotonic() + 5
        while alive(process.pid) and time.monotonic() < end:
            time.sleep(0.02)
        assert not alive(process.pid), f"killed after {wait} s"
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for task in ("eurosat", "dspr_loc"):
        _ = Vtab(task, str(root), official=False).table
    assert sorted(os.listdir(root)) == ["dsprites", "eurosat"]


def test_two_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Claim(tmp_path / ".work" / "eurosat"):
        ((_, manifest, _),) = vtab.prepare(["eurosat"], tmp_path, official=False)
    assert manifest is None
    said = capsys.readouterr().err
    assert f"is being prepared by process {os.getpid()} on {os.uname().nodename}; wait for it" in said
    quick(tmp_path)
    assert sizes(tmp_path) == [8, 0, 3]


def test_a_folder_of_that_name_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "eurosat" / "2750" / "River" / "River_1.jpg"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"the user's only copy")
    with contextlib.suppress(UserError):
        quick(tmp_path)
    assert own.read_bytes() == b"the user's only copy"


# Examples that cannot be used


def test_one_image_that_cannot_be_decoded(tmp_path: Path) -> None:
    spoilt = examples(3, "test")
    spoilt[1]["image"] = spoilt[1]["image"][:200]
    with pytest.raises(UserError, match=r"River_test_1\.jpg of eurosat cannot be used \(.*\); fetch it again"):
        write(tmp_path / "eurosat", test=spoilt)
    with pytest.raises(UserError, match="is not prepared"):
        _ = Vtab("eurosat", str(tmp_path), official=False).table


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_that_is_no_class(label: int, tmp_path: Path) -> None:
    sentence = rf"River_val_0\.jpg of eurosat cannot be used \(its label {label} in eurosat is outside of the 10"
    with pytest.raises(UserError, match=sentence):
        write(tmp_path / "eurosat", val=examples(1, "val", label=label))
    assert not (tmp_path / "eurosat" / MANIFEST).exists()


@pytest.mark.slow
def test_after_a_damaged_archive_the_good_one_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def prepare() -> str:
        for _ in vtab.prepare(["eurosat"], tmp_path / "data", tmp_path, official=False):
            pass
        return capsys.readouterr().err

    plain = vtab_archives.encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vtab_archives, "encode", lambda image, kind="JPEG": plain(image, kind)[:-300])
        vtab_archives.eurosat(tmp_path)
    assert "of eurosat cannot be used (" in prepare()
    assert not (tmp_path / "data" / "eurosat").exists()
    vtab_archives.eurosat(tmp_path)
    assert "error" not in prepare()
    assert sizes(tmp_path / "data") == [32, 0, 8]


@pytest.mark.parametrize("package", ["tensorflow_datasets", "tensorflow", "importlib_resources", "array_record"])
def test_without_a_package_it_says_what_to_install(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else plain(name))
    ((_, manifest, _),) = vtab.prepare(["eurosat"], tmp_path, official=False)
    assert manifest is None
    said = capsys.readouterr().err
    assert f"needs the package {package}; " in said and "pip install 'toast-transfer[prepare]'" in said


# Folders that were changed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "data" / "eurosat")
    return tmp_path / "data"


def edit(path: Path) -> None:
    content = json.loads(path.read_text())
    content["splits"]["train"] += 1
    path.write_text(json.dumps(content))


def relabel(path: Path) -> None:
    labels = np.load(path)
    labels[0] = 3
    np.save(path, labels)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize(
    ("name", "spoil", "sentence"),
    [
        (MANIFEST, edit, "was edited after it was written"),
        (MANIFEST, lambda path: os.truncate(path, 700), "is no whole manifest"),
        *[(MANIFEST, lambda path, text=text: path.write_text(text), "is no whole manifest")
          for text in ("", "[]", "null", "{}", '{"seal": 1, "format": 1}')],
        (MANIFEST, lambda path: path.write_text('{"seal": 1, "format": 2}'), "is of another version of this project"),
        (MANIFEST, Path.unlink, "is not prepared"),
        ("images.bin", shorten, r"images\.bin has .* bytes and not the .* that were written"),
        ("images.bin", Path.unlink, r"images\.bin is missing"),
        ("eurosat.npy", relabel, r"eurosat\.npy was changed after it was written"),
        ("keys.txt", lambda path: path.write_text(path.read_text().replace("train_0", "train_9")), "was changed"),
        ("offsets.npy", relabel, r"offsets\.npy was changed"),
    ],
)  # fmt: skip
def test_a_changed_folder_is_noticed(name: str, spoil: Any, sentence: str, root: Path) -> None:
    spoil(root / "eurosat" / name)
    with pytest.raises(UserError, match=sentence) as caught:
        _ = Vtab("eurosat", str(root), official=False).table
    assert f"python -m src.prepare data=vtab data.task=eurosat data.root={root}" in str(caught.value)


def test_preparing_again_looks_at_every_byte(root: Path) -> None:
    path = root / "eurosat" / "images.bin"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    _ = Vtab("eurosat", str(root), official=False).table  # a start reads no image
    with pytest.raises(UserError, match=r"images\.bin was changed after it was written; remove .*eurosat and start"):
        quick(root)


def test_accepted_examples_need_the_same_word_in_training(root: Path) -> None:
    with pytest.raises(UserError, match=r"eurosat below .* was accepted with data\.official=false; use it with"):
        _ = Vtab("eurosat", str(root)).table
    with pytest.raises(UserError, match=r"was prepared with data\.official=false; keep it with"):
        quick(root, official=True)


def test_a_folder_that_was_moved_and_may_not_be_written_to(root: Path, tmp_path: Path) -> None:
    moved = tmp_path / "else where"
    root.rename(moved)
    for path in [*moved.rglob("*"), moved]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert sizes(moved) == [8, 0, 3]
        assert quick(moved)[1] is False
    finally:
        for path in [moved, *moved.rglob("*")]:
            path.chmod(0o755)


def test_a_disk_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(claim: Claim) -> Claim:
        raise OSError(errno.EROFS, "Read-only file system", str(claim.path))

    monkeypatch.setattr(Claim, "__enter__", refuse)
    with pytest.raises(UserError, match=r"nothing can be written there \(Read-only file system\)"):
        quick(tmp_path)

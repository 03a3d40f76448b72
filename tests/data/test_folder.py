"""A user's own pictures: what is a class, what is a picture, who is held out, and what is said of the rest."""

import logging
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from src.data.folder import Folder
from src.data.table import Table
from src.records import UserError
from tests.archives import put, shared
from tests.cub import picture


def table(root: Path, **options: object) -> Table:
    return Folder(str(root), image_size=32, **options).table  # type: ignore[arg-type]


def names(root: Path, **options: object) -> dict[str, set[str]]:
    return {split: set(images.names) for split, images in table(root, **options).splits.items()}


def counts(root: Path, **options: object) -> dict[str, Counter[str]]:
    """Pictures by split and class."""
    found = table(root, **options)
    return {split: Counter(found.classes[label] for label in images.labels) for split, images in found.splits.items()}


def make(root: Path, classes: dict[str, int], suffix: str = ".jpg") -> Path:
    put(root, [f"{name}/{i:03d}{suffix}" for name, count in classes.items() for i in range(count)])
    return root


# The automatic split


def test_each_class_gives_its_share(tmp_path: Path) -> None:
    make(tmp_path, {"cat": 20, "dog": 10, "owl": 7})
    assert counts(tmp_path) == {
        "train": {"cat": 14, "dog": 7, "owl": 5},
        "val": {"cat": 2, "dog": 1, "owl": 1},
        "test": {"cat": 4, "dog": 2, "owl": 1},
    }
    found = names(tmp_path)
    assert len(found["train"] | found["val"] | found["test"]) == 37
    assert counts(tmp_path, val_share=0.5, test_share=0.0)["val"] == {"cat": 10, "dog": 5, "owl": 4}
    assert counts(tmp_path, val_share=0.0, test_share=0.0)["train"] == {"cat": 20, "dog": 10, "owl": 7}
    assert table(tmp_path).marks == ["own split"]
    assert not table(tmp_path).official


def test_names_decide_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(tmp_path / "first", {"cat": 20, "dog": 10})
    expected, fingerprint = names(first), table(first).fingerprint
    made = ["cat", "dog"]
    second = make(tmp_path / "second", {name: {"cat": 20, "dog": 10}[name] for name in reversed(made)})
    for path in second.rglob("*.jpg"):
        (first / path.relative_to(second)).replace(path)
    scan = os.scandir

    def shuffled(folder: Path) -> "Listing":
        return Listing(list(scan(folder)))

    class Listing(list):  # type: ignore[type-arg]
        def __enter__(self) -> "Listing":
            random.Random(3).shuffle(self)
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("os.scandir", shuffled)
    assert names(second) == expected
    assert table(second).fingerprint == fingerprint
    make(second, {"emu": 6})
    assert {split: {n for n in found if "emu" not in n} for split, found in names(second).items()} == expected


def test_it_does_not_follow_the_names_order(tmp_path: Path) -> None:
    make(tmp_path, {"cat": 100, "dog": 100})
    held = sorted(int(Path(name).stem) for name in names(tmp_path)["test"] if name.startswith("cat"))
    assert len(held) == 20
    assert min(held) < 25
    assert max(held) > 75


def test_a_changed_picture_changes_the_fingerprint(tmp_path: Path) -> None:
    make(tmp_path, {"cat": 3, "dog": 3})
    before = table(tmp_path).fingerprint
    picture(99, height=90).save(tmp_path / "cat" / "001.jpg")
    assert table(tmp_path).fingerprint != before


def test_flowers_as_a_users_folder() -> None:
    for root in shared("flowers12"):
        found = counts(root)
        assert len(found["train"]) == 12
        assert set(found["train"].values()) == {14}
        assert set(found["val"].values()) == {2}
        assert set(found["test"].values()) == {4}


# Split folders


@pytest.mark.parametrize(
    "folders", [("train", "val", "test"), ("train", "valid", "test"), ("Training", "validation", "Testing")]
)
def test_split_folders_are_used_as_they_are(folders: tuple[str, str, str], tmp_path: Path) -> None:
    train, val, test = folders
    make(tmp_path / train, {"cat": 4, "dog": 5, "owl": 3})
    make(tmp_path / val, {"dog": 2, "cat": 1})
    make(tmp_path / test, {"owl": 2, "cat": 1})
    found = table(tmp_path)
    assert found.classes == ["cat", "dog", "owl"]
    assert counts(tmp_path) == {
        "train": {"cat": 4, "dog": 5, "owl": 3}, "val": {"cat": 1, "dog": 2}, "test": {"cat": 1, "owl": 2},
    }  # fmt: skip
    assert found.marks == []
    for images in found.splits.values():
        assert all(found.classes[label] in name for name, label in zip(images.names, images.labels, strict=True))


def test_a_picture_in_two_splits_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "val", "test"):
        make(tmp_path / split, {"cat": 4, "dog": 4})
    assert table(tmp_path).marks == []
    shutil.copy(tmp_path / "train" / "cat" / "000.jpg", tmp_path / "test" / "dog" / "copy.jpg")
    assert table(tmp_path).marks == ["image in two splits"]
    assert "the same picture is in another split too: t" in caplog.text


def test_classes_that_differ_in_case_only_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, {"Daisy": 4, "daisy": 4})
    assert table(tmp_path).classes == ["Daisy", "daisy"]
    assert "differ in case only: Daisy, daisy" in caplog.text


@pytest.mark.parametrize("there", ["val", "test", None])
def test_a_missing_split_is_cut_from_train(there: str | None, tmp_path: Path) -> None:
    make(tmp_path / "train", {"cat": 20, "dog": 20})
    if there:
        make(tmp_path / there, {"cat": 3})
    found = counts(tmp_path)
    assert found["val"] == ({"cat": 3} if there == "val" else {"cat": 2, "dog": 2})
    assert found["test"] == ({"cat": 3} if there == "test" else {"cat": 4, "dog": 4})
    assert found["train"]["cat"] == 20 - (there != "val") * 2 - (there != "test") * 4
    assert table(tmp_path).marks == ["own split"]


def test_train_may_be_a_class(tmp_path: Path) -> None:
    make(tmp_path, {"bus": 4, "train": 4, "train/steam": 4})
    assert counts(tmp_path, test_share=0.0)["train"] == {"bus": 4, "train": 7}


# What is no picture, no class, no name to count on


def test_what_programs_leave_is_skipped_and_said_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, {"cat": 10, "dog": 10})
    put(tmp_path, ["cat/.ipynb_checkpoints/a-checkpoint.jpg", ".ipynb_checkpoints/b.jpg", "__MACOSX/cat/c.jpg"])
    for name in (".DS_Store", "Thumbs.db", "readme.txt", "cat/Thumbs.db", "cat/notes.txt", "cat/._000.jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "dog" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with caplog.at_level(logging.INFO, "src"):
        found = table(tmp_path)
    assert found.classes == ["cat", "dog"]
    assert sum(len(images.labels) for images in found.splits.values()) == 20
    (line,) = caplog.messages
    for said in (
        "hidden or system files and folders (7: .DS_Store, .ipynb_checkpoints, Thumbs.db, ...)",
        "files outside of class folders (1: readme.txt)",
        "class folders without pictures (1: empty)",
        "files that are no pictures (1: cat/notes.txt)",
        "links that lead nowhere (1: dog/gone.jpg)",
    ):
        assert said in line
    assert "\n" not in line


def test_nothing_is_said_of_a_tidy_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, {"cat": 10, "dog": 10})
    with caplog.at_level(logging.INFO, "src"):
        table(tmp_path)
    assert not caplog.messages


def test_one_picture_a_class_is_trained_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, {"cat": 1, "dog": 1, "emu": 10})
    assert counts(tmp_path) == {"train": {"cat": 1, "dog": 1, "emu": 7}, "val": {"emu": 1}, "test": {"emu": 2}}
    assert "too few pictures to hold any out, all train: cat, dog" in caplog.text


def test_odd_names(tmp_path: Path) -> None:
    odd = [b"a, b.jpg", b"a=[1] {x}.JPG", b"\xff\xfe.jpg", "zoë.jpeg".encode(), b"line\nbreak.png", b"A.jpg", b"a.jpg"]
    for folder in (b"cat, black", b"caf\xe9"):
        os.mkdir(os.path.join(os.fsencode(tmp_path), folder))
        for seed, name in enumerate(odd):
            with open(os.path.join(os.fsencode(tmp_path), folder, name), "wb") as file:
                picture(seed).save(file, format="JPEG")
    found = table(tmp_path)
    assert found.classes == ["caf\\xe9", "cat, black"]
    assert {split: len(images.labels) for split, images in found.splits.items()} == {"train": 10, "val": 2, "test": 2}
    for images in found.splits.values():
        for example, name in enumerate(images.names):
            assert name.encode()
            assert images.pixels(example).shape == (3, 70, 90)
    assert found.fingerprint


def test_links_are_followed_but_not_round_and_round(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = make(tmp_path / "elsewhere", {"cat": 4})
    root = make(tmp_path / "root", {"dog": 4})
    (root / "cat").symlink_to(elsewhere / "cat")
    (root / "dog" / "up").symlink_to(root)
    (root / "dog" / "self").symlink_to("self")
    (elsewhere / "cat" / "back").symlink_to(root / "cat")
    assert counts(root, val_share=0.0, test_share=0.0)["train"] == {"cat": 4, "dog": 4}
    assert "links that lead back (2: cat/back, dog/up)" in caplog.text
    assert "links that lead nowhere (1: dog/self)" in caplog.text


def test_pictures_are_upright(tmp_path: Path) -> None:
    make(tmp_path, {"cat": 2, "dog": 2})
    image = picture(5)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "cat" / "000.png", exif=exif)
    image.save(tmp_path / "cat" / "001.png")
    images = table(tmp_path, val_share=0.0, test_share=0.0).splits["train"]
    turned, stored = (images.pixels(list(images.names).index(f"cat/00{i}.png")) for i in range(2))
    assert torch.equal(turned, stored)
    assert Folder(str(tmp_path)).preprocessing()["orientation"] == "upright by EXIF"


# What ends in a sentence


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ({}, "no pictures in class folders"),
        ({"cat": 3}, "pictures of one class only, cat.*if its folders are the classes, give .*cat"),
        ({"train/cat": 3, "train/dog": 3, "val/cat": 1, "val/emu": 1}, "has emu in val but not in train"),
        ({"train/Cat": 3, "train/dog": 3, "test/cat": 1}, "has cat in test but not in train"),
        ({"val/cat": 3, "test/cat": 3}, "has test, val, but no folder train"),
        ({"train": 3, "test": 3}, "has test, train, but no class folders in train"),
        ({"train/cat": 3, "train/dog": 3, "val/cat": 1, "valid/cat": 1}, "two of them for one split"),
    ],
)
def test_what_cannot_be_classes(classes: dict[str, int], sentence: str, tmp_path: Path) -> None:
    make(tmp_path, classes)
    with pytest.raises(UserError, match=sentence) as caught:
        table(tmp_path)
    assert "\n" not in str(caught.value)


def test_folders_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"nothing cannot be read \(No such file or directory\); check data\.root"):
        table(tmp_path / "nothing")
    make(tmp_path, {"cat": 3, "dog": 3})
    with pytest.raises(UserError, match=r"000\.jpg cannot be read \(Not a directory\)"):
        table(tmp_path / "cat" / "000.jpg")
    scan = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == "dog":
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(UserError, match=r"the folder .*dog cannot be read \(Permission denied\)"):
        table(tmp_path)


@pytest.mark.parametrize("shares", [(-0.1, 0.2), (0.5, 0.5), (1.0, 0.0)])
def test_shares_that_cannot_be(shares: tuple[float, float]) -> None:
    with pytest.raises(UserError, match=r"data\.val_share=.*together below 1"):
        Folder("anywhere", val_share=shares[0], test_share=shares[1])

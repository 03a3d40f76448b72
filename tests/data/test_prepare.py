"""`python -m src.prepare`: from archives in their official layouts to folders that train."""

import dataclasses
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from src import prepare as command
from src.data.fgvc import ARCHIVES, Fgvc, digest_of
from src.data.prepare import fgvc
from src.data.prepare.archives import DOWNLOADS
from src.data.prepare.fgvc import MARKS, prepare
from src.records import UserError
from tests.data.pack import (
    MINIATURE,
    archives,
    counts,
    images,
    jpeg,
    leftovers,
    miniature,
    pack,
    publish,
    texts,
)

PROJECT = Path(__file__).parents[2]


def tree(folder: Path) -> dict[str, int]:
    """When every file and folder was last changed."""
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


@pytest.mark.parametrize("name", list(DOWNLOADS))
def test_every_set_from_its_archives(
    name: str, made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ARCHIVES[name].folder
    downloads = miniature(name, made, tmp_path, monkeypatch)
    found = prepare(name, tmp_path / folder, subset=True)
    assert found.changed and found.folder == tmp_path / folder
    assert counts(name, tmp_path / folder) == MINIATURE
    for split in found.table.splits.values():
        assert split.pixels(0).shape == (3, 20, 30)
    assert set(json.loads((tmp_path / folder / MARKS).read_text())) == {path.name for path in downloads}
    assert leftovers(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([folder, *(path.name for path in downloads)])
    before = tree(tmp_path)
    assert not prepare(name, tmp_path / folder, subset=True).changed
    assert tree(tmp_path) == before


def test_a_whole_set_by_command_then_nothing_to_do_then_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"train": 102, "val": 1, "test": 2}
    place, root = tmp_path / "a, b", tmp_path / "a, b" / "oxford_flowers"
    lists = few_flowers(tmp_path / "lists", *kept.values())
    few = digest_of(ARCHIVES["flowers"].read(lists))
    monkeypatch.setitem(ARCHIVES, "flowers", dataclasses.replace(ARCHIVES["flowers"], counts=kept, digest=few))
    publish("flowers", archives("flowers", lists, place, whole=True), monkeypatch)
    arguments = ["data=fgvc/flowers", f"paths.data={place}"]
    assert command.main(arguments) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split() for line in shown[-5:-1]] == [
        ["train", "102"],
        ["val", "1"],
        ["test", "2"],
        ["classes", "102"],
    ]
    assert shown[-1] == f"python -m src.train experiment=fgvc/toast data=fgvc/flowers 'data.root={root}'"
    assert Fgvc("flowers", str(root)).table.official

    with monkeypatch.context() as patch:
        # As in a folder that may not be written to; that its archives are not read again is what makes it quick.
        for name in ("claimed", "check_sum", "write_text"):
            patch.setattr(fgvc, name, None)
        (root / MARKS).unlink()
        before = tree(tmp_path)
        assert command.main(arguments) == 0
        assert "was prepared already" in capsys.readouterr().out
        assert tree(tmp_path) == before

    gone = root / "jpg" / "image_00007.jpg"
    for _ in range(2):
        gone.unlink()
        assert command.main(arguments) == 0
        assert gone.exists()

    (place / "102flowers.tgz").rename(tmp_path / "102flowers.tgz")
    gone.unlink()
    assert command.main(arguments) == 2
    assert "1 of the 105 listed images are missing" in capsys.readouterr().err
    assert command.main([*arguments, f"data.archives={tmp_path}"]) == 0
    assert gone.exists()


def few_flowers(folder: Path, train: int, val: int, test: int) -> Path:
    """Lists of Flowers with these numbers of images."""
    folder.mkdir()
    ends = np.cumsum([train, val, test])
    ids = {key: np.arange(end - size + 1, end + 1) for key, end, size in
           zip(("trnid", "valid", "tstid"), ends, (train, val, test), strict=True)}  # fmt: skip
    savemat(folder / "setid.mat", ids)
    savemat(folder / "imagelabels.mat", {"labels": np.arange(ends[-1]) % 102 + 1})
    return folder


@pytest.mark.parametrize("root", ["stanford_dogs", "dogs", "."])
def test_where_it_goes(root: str, made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = tmp_path / "downloads"
    miniature("dogs", made, archives, monkeypatch)
    found = prepare("dogs", tmp_path / root, archives=archives, subset=True)
    assert found.folder == (tmp_path / root if root == "stanford_dogs" else tmp_path / root / "stanford_dogs")
    assert counts("dogs", tmp_path / root) == MINIATURE


def test_files_in_the_root_make_it_the_folder(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    miniature("flowers", made, tmp_path, monkeypatch)
    assert prepare("flowers", tmp_path, subset=True).folder == tmp_path
    assert counts("flowers", tmp_path) == MINIATURE


def test_half_unpacked_by_hand_is_completed(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive, _) = miniature("cub", made, tmp_path, monkeypatch)
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, [info for info in tar if "/test_" not in info.name], filter="data")
    assert counts("cub", tmp_path)["test"] == 0
    prepare("cub", tmp_path / "CUB_200_2011", subset=True)
    assert counts("cub", tmp_path) == MINIATURE


def test_what_can_be_done_without_may_come_later(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = miniature("cub", made, tmp_path, monkeypatch)[1]
    kept = masks.rename(tmp_path / "later")
    root = tmp_path / "CUB_200_2011"
    prepare("cub", root, subset=True)
    assert not (root / "segmentations").exists()
    kept.rename(masks)
    assert prepare("cub", root, subset=True).changed
    assert len(list(root.glob("segmentations/*/*.png"))) == sum(MINIATURE.values())


def test_cars_in_one_folder_take_the_place_of_two(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in miniature("cars", made, tmp_path, monkeypatch):
        if path.name in ("cars_train.tgz", "cars_test.tgz"):
            path.unlink()
    pack(tmp_path / "car_ims.tgz", {f"car_ims/{8144 + 8041:06d}.jpg": jpeg()})
    with pytest.raises(UserError, match=r"cars_train\.tgz .* cars_test\.tgz"):
        prepare("cars", tmp_path / "stanford_cars", official=False, subset=True)
    shutil.copy(made["cars"] / "cars_annos.mat", tmp_path)
    prepare("cars", tmp_path / "stanford_cars", official=False, subset=True)
    assert counts("cars", tmp_path / "stanford_cars") == {"train": 1, "val": 0, "test": 0}


def test_a_mirrors_zip_with_another_folder_inside(
    made: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in miniature("cars", made, tmp_path, monkeypatch):
        if path.name.startswith(("cars_train.", "car_devkit")):
            path.unlink()
    pictures = {f"cars_train/{name}": content for name, content in images("cars", made["cars"], False).items()}
    pack(tmp_path / "cars_train.zip", {name: content for name, content in pictures.items() if "_train" in name[11:]})
    kit = texts(made["cars"], "devkit/cars_meta.mat", "devkit/cars_train_annos.mat")
    pack(tmp_path / "car_devkit.zip", {f"car_devkit/{name}": content for name, content in kit.items()})
    with pytest.raises(UserError, match=r"cars_train\.zip has .* bytes instead of .* data\.official=false"):
        prepare("cars", tmp_path / "stanford_cars", subset=True)
    assert not (tmp_path / "stanford_cars").exists()
    prepare("cars", tmp_path / "stanford_cars", official=False, subset=True)
    assert counts("cars", tmp_path) == MINIATURE
    assert "cars_train.zip has" in caplog.text


# The command line


def test_help_says_what_to_fetch(tmp_path: Path) -> None:
    code = "import sys; from src.prepare import main; main([]); print({'torch', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    for downloads in DOWNLOADS.values():
        for one in downloads:
            assert one.name in done.stdout and one.where in done.stdout
            assert one.size is None or f"{one.size:,}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["data=fgvc/cubs"], "data=fgvc/cubs is not an option"),
        (["data=scenes"], "nothing to prepare for this data set; give one of data=fgvc/cub"),
        (["data.root=x"], "which data set"),
        (["data=fgvc/cub", "method=vpt"], "method=vpt is not for this command"),
        (["data=fgvc/cub,fgvc/dogs"], "asks for several"),
        (["data=fgvc/cub", "data.official=perhaps"], "data.official=perhaps is neither true nor false"),
    ],
)
def test_wrong_arguments(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_one_after_another(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    miniature("dogs", made, tmp_path, monkeypatch)
    arguments = ["-m", "data=fgvc/flowers,fgvc/dogs", f"paths.data={tmp_path}", "data.subset=true"]
    assert command.main(arguments) == 2
    shown = capsys.readouterr()
    assert "102flowers.tgz" in shown.err and "dogs prepared" in shown.out
    miniature("flowers", made, tmp_path, monkeypatch)
    assert command.main(arguments) == 0
    assert "not official" in capsys.readouterr().out

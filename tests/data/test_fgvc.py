"""FGVC data sets from their archives' layouts: where things may lie, whole sets and parts, and what is refused."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from src.data.fgvc import ARCHIVES, Fgvc, digest_of, read_lists
from src.records import UserError
from tests.archives import LABELLED, annotations, put
from tests.cub import make_cub


@pytest.fixture(scope="module")
def cub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cub(tmp_path_factory.mktemp("data") / "CUB_200_2011", images=3)


def test_membership_labels_and_class_names(cub: Path) -> None:
    table = Fgvc("cub", str(cub), subset=True).table
    assert not table.official
    assert {split: len(images.labels) for split, images in table.splits.items()} == {"train": 3, "val": 3, "test": 3}
    assert len(table.classes) == 200
    assert table.classes[0] == "Black_footed_Albatross"
    for images in table.splits.values():
        for name, label in zip(images.names, images.labels, strict=True):
            assert name.split("/")[1] == f"{label + 1:03d}.{table.classes[label]}"


def test_a_whole_set_is_official_and_its_counts_are_the_published_ones(cub: Path, tmp_path: Path) -> None:
    lists = make_cub(tmp_path / "CUB_200_2011", images=0)
    for line in (lists / "images.txt").read_text().splitlines():
        path = lists / "images" / line.split()[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for root in (lists, tmp_path):
        table = Fgvc("cub", str(root)).table
        assert table.official
        counts = {split: len(images.labels) for split, images in table.splits.items()}
        assert counts == {"train": 5394, "val": 600, "test": 5794}


def test_the_fingerprint_speaks_of_what_is_there(cub: Path, tmp_path: Path) -> None:
    fewer = make_cub(tmp_path, images=2)
    prints = {Fgvc("cub", str(root), subset=True).table.fingerprint for root in (cub, fewer)}
    assert len(prints) == 2
    assert Fgvc("cub", str(cub), subset=True).table.fingerprint in prints


def test_what_is_missing_or_wrong_is_a_sentence(cub: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"11779 of the 11788 listed images are missing.*data\.subset=true"):
        _ = Fgvc("cub", str(cub)).table
    with pytest.raises(UserError, match=r"does not exist.*CUB_200_2011\.tgz.*make demo"):
        _ = Fgvc("cub", str(tmp_path / "nothing")).table
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no images\.txt"):
        _ = Fgvc("cub", str(tmp_path / "empty")).table
    with pytest.raises(UserError, match="one of cub, nabirds, flowers, dogs, cars"):
        Fgvc("cubs", str(cub))


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("train_test_split.txt", None, r"train_test_split\.txt is missing"),
        ("images.txt", "1 \n", r"images\.txt, line 1"),
        ("image_class_labels.txt", "1 1\n", "list different images"),
        ("image_class_labels.txt", "1 one\n", "something else than a number"),
        ("classes.txt", "1 001.Black_footed_Albatross\n", "1 classes instead of 200"),
        ("train_test_split.txt", "swap", "another version"),
        ("image_class_labels.txt", "201", "outside the 200 classes"),
    ],
)
def test_a_damaged_list_is_a_sentence(tmp_path: Path, file: str, change: str | None, sentence: str) -> None:
    root = make_cub(tmp_path, images=1)
    lines = (root / file).read_text().splitlines()
    if change is None:
        (root / file).unlink()
    elif change == "swap":
        (root / file).write_text("\n".join(line[:-1] + ("0" if line.endswith("1") else "1") for line in lines) + "\n")
    elif change == "201":
        (root / file).write_text("\n".join(line.split()[0] + " 201" for line in lines) + "\n")
    else:
        (root / file).write_text(change)
    with pytest.raises(UserError, match=sentence):
        _ = Fgvc("cub", str(root), subset=True).table


def test_a_subset_with_nothing_to_train_on_is_a_sentence(tmp_path: Path) -> None:
    root = make_cub(tmp_path, images=0)
    with pytest.raises(UserError, match="no training image"):
        _ = Fgvc("cub", str(root), subset=True).table


# The other four, wherever their pieces lie


def firsts(name: str, root: Path) -> dict[str, list[str]]:
    """The first two images of each split."""
    listed = read_lists(root, ARCHIVES[name])
    splits = {"train": listed.train, "val": listed.val, "test": listed.test}
    return {split: [entry for entry, _ in items[:2]] for split, items in splits.items()}


def lay(root: Path, files: dict[str, str], to: Path) -> Path:
    """Copy list files to other places: {from root: from `to`}."""
    for source, place in files.items():
        (to / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / source, to / place)
    return to


BIRDS = ["images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt"]
KIT = ["cars_meta.mat", "cars_train_annos.mat"]
LAYOUTS = {
    "nabirds": ("nabirds", {file: file for file in BIRDS}, {}),
    "nabirds in its folder": ("nabirds", {file: f"nabirds/{file}" for file in BIRDS}, {"images": "nabirds/images"}),
    "nabirds further down": ("nabirds", {file: f"a/nabirds/{file}" for file in BIRDS}, {"images": "a/nabirds/images"}),
    "flowers": ("flowers", {"setid.mat": "setid.mat", "imagelabels.mat": "imagelabels.mat"}, {}),
    "flowers by archive": (
        "flowers", {"setid.mat": "setid.mat", "imagelabels.mat": "imagelabels.mat"}, {"jpg": "102flowers/jpg"},
    ),
    "dogs": ("dogs", {f"{s}_list.mat": f"{s}_list.mat" for s in ("train", "test")}, {}),
    "dogs by archive": (
        "dogs", {f"{s}_list.mat": f"lists/{s}_list.mat" for s in ("train", "test")}, {"Images": "images/Images"},
    ),
    "cars": ("cars", {f"devkit/{file}": f"devkit/{file}" for file in KIT} | {LABELLED: LABELLED}, {}),
    "cars by mirror": (
        "cars",
        {f"devkit/{file}": f"car_devkit/devkit/{file}" for file in KIT} | {LABELLED: f"car_devkit/devkit/{LABELLED}"},
        {"cars_train": "cars_train/cars_train", "cars_test": "cars_test/cars_test"},
    ),
    "cars, test labels in the devkit": (
        "cars", {f"devkit/{file}": f"devkit/{file}" for file in KIT} | {LABELLED: f"devkit/{LABELLED}"}, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_where_pieces_may_lie(layout: str, made: dict[str, Path], tmp_path: Path) -> None:
    name, files, moves = LAYOUTS[layout]
    expected = firsts(name, made[name])
    root = lay(made[name], files, tmp_path)
    entries = [entry for split in expected.values() for entry in split]
    put(root, [f"{moves.get(top, top)}/{rest}" for top, _, rest in (entry.partition("/") for entry in entries)])
    found = Fgvc(name, str(root), subset=True, image_size=32).table
    assert {split: list(images.names) for split, images in found.splits.items()} == expected
    for images in found.splits.values():
        assert all(images.pixels(example).shape == (3, 70, 90) for example in range(2))
    assert not found.official


def test_cars_by_six_digits_are_joined_by_class_and_box(made: dict[str, Path], tmp_path: Path) -> None:
    files = {f"devkit/{file}": f"devkit/{file}" for file in KIT} | {
        LABELLED: LABELLED,
        "cars_annos.mat": "cars_annos.mat",
    }
    root = lay(made["cars"], files, tmp_path)
    # cars_train/00197 and cars_test/00197 share class and box; the file counts backwards, test images first.
    both = 8144 + 8041
    put(root, [f"car_ims/{number:06d}.jpg" for number in (both, both - 196, 8041 - 196, 1)])
    table = Fgvc("cars", str(root), subset=True).table
    names = {
        name: path for images in table.splits.values() for name, path in zip(images.names, images.paths, strict=True)
    }
    assert names == {
        "cars_train/00001.jpg": f"car_ims/{both:06d}.jpg",
        "cars_train/00197.jpg": f"car_ims/{both - 196:06d}.jpg",
        "cars_test/00197.jpg": f"car_ims/{8041 - 196:06d}.jpg",
        "cars_test/08041.jpg": "car_ims/000001.jpg",
    }
    table_of_three = annotations(
        [(1, 2, 3, 4)] * 3, [1, 1, 1], relative_im_path=["car_ims/000001.jpg"] * 3, test=[0] * 3
    )
    savemat(root / "cars_annos.mat", {"annotations": table_of_three})
    with pytest.raises(UserError, match=r"cars_annos\.mat and the devkit list different images"):
        _ = Fgvc("cars", str(root), subset=True).table


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nabirds", "flowers", "dogs", "cars"])
def test_whole_sets_are_official(name: str, made: dict[str, Path], real: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / ARCHIVES[name].folder
    shutil.copytree((real if name in ("nabirds", "flowers") and name in real else made)[name], root)
    listed = read_lists(root, ARCHIVES[name])
    entries = [entry for items in (listed.train, listed.val, listed.test) for entry, _ in items]
    put(root, entries[:1])
    for folder in {(root / entry).parent for entry in entries}:
        folder.mkdir(parents=True, exist_ok=True)
    for entry in entries[1:]:
        os.symlink(root / entries[0], root / entry)
    data = Fgvc(name, str(tmp_path), image_size=32, batch_size=64, workers=0)
    assert data.table.official
    assert {split: len(images.labels) for split, images in data.table.splits.items()} == ARCHIVES[name].counts
    assert next(iter(data.train_dataloader())).images.shape == (64, 3, 32, 32)


def damage(root: Path, file: str, content: dict[str, object] | bytes | None) -> None:
    if content is None:
        (root / file).unlink()
    elif isinstance(content, bytes):
        (root / file).write_bytes(content)
    else:
        savemat(root / file, content)


UNLABELLED = {"annotations": np.array([[(1, "a.jpg")]], dtype=[("bbox_x1", object), ("fname", object)])}


@pytest.mark.parametrize(
    ("name", "file", "content", "sentence"),
    [
        ("nabirds", "classes.txt", b"0 Birds\n1 Ducks, Geese, and Swans\n", "has the class 295, which classes"),
        ("nabirds", "image_class_labels.txt", b"\xff\xfe", "cannot be read"),
        ("flowers", "imagelabels.mat", None, r"imagelabels\.mat is missing .* beside 102flowers\.tgz"),
        ("flowers", "imagelabels.mat", {"labels": [[1, 2, 3]]}, "do not belong together"),
        ("flowers", "setid.mat", {"trnid": [[1]]}, "has no valid"),
        ("flowers", "setid.mat", {"trnid": [[1]], "valid": [[2]], "tstid": [[3]]}, "another version"),
        ("dogs", "test_list.mat", None, r"test_list\.mat is missing .* lists\.tar"),
        ("dogs", "train_list.mat", b"MATLAB 5.0 MAT-file, cut off", "cannot be read"),
        ("dogs", "train_list.mat", b"", "cannot be read"),
        ("cars", LABELLED, None, f"{LABELLED} is missing"),
        ("cars", LABELLED, UNLABELLED, "has no bbox_x2"),
        ("cars", "devkit/cars_meta.mat", None, r"cars_meta\.mat is missing .* car_devkit\.tgz"),
        ("cars", "devkit/cars_meta.mat", {"class_names": [["one"]]}, "1 classes instead of 196"),
    ],
)
def test_what_is_wrong_with_the_others(
    name: str, file: str, content: object, sentence: str, made: dict[str, Path], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(made[name], tmp_path / "root"))
    damage(root, file, content)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=sentence) as caught:
        _ = Fgvc(name, str(root), subset=True).table
    assert "\n" not in str(caught.value)


def test_a_folder_that_may_not_be_read_is_a_sentence(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.listdir", refuse)
    with pytest.raises(UserError, match=r"the folder .*jpg cannot be read .*check its permissions"):
        _ = Fgvc("flowers", str(made["flowers"]), subset=True).table


@pytest.mark.parametrize("file", ["image_class_labels.txt", "train_test_split.txt"])
def test_lists_of_another_version_with_the_same_numbers(file: str, cub: Path, tmp_path: Path) -> None:
    root = tmp_path / "CUB_200_2011"
    shutil.copytree(cub, root)
    lines = [line.split() for line in (root / file).read_text().splitlines()]
    # Two images exchange what is said of them, and every count stays.
    one, other = lines[1000], next(line for line in lines[1000:] if line[1] != lines[1000][1])
    one[1], other[1] = other[1], one[1]
    (root / file).write_text("".join(f"{key} {value}\n" for key, value in lines))
    with pytest.raises(UserError, match="other names, labels or splits than the published ones"):
        _ = Fgvc("cub", str(root)).table
    table = Fgvc("cub", str(root), subset=True).table
    assert table.marks == ["other lists"]
    assert not table.official


def test_a_cars_archive_under_the_other_ones_name(made: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "stanford_cars"
    shutil.copytree(made["cars"], root)
    put(root, ["cars_test/08042.jpg"])
    with pytest.raises(UserError, match=r"cars_test holds more images than the 8,041 of its list"):
        _ = Fgvc("cars", str(root), subset=True).table


def test_cars_of_a_mirror_without_the_devkit_names_what_is_missing(tmp_path: Path) -> None:
    put(tmp_path, ["stanford_cars/car_ims/000001.jpg"])
    with pytest.raises(UserError, match=r"fetch car_devkit.tgz and cars_test_annos_withlabels.mat, and cars_annos.mat"):
        _ = Fgvc("cars", str(tmp_path / "stanford_cars")).table


def test_real_lists_are_the_published_ones(real: dict[str, Path]) -> None:
    for name, root in real.items():
        assert digest_of(ARCHIVES[name].read(root)) == ARCHIVES[name].digest, name

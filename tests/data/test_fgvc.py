"""CUB from its archive's layout: membership, classes, and what is refused."""

import hashlib
from pathlib import Path

import pytest

from src.data.fgvc import ARCHIVES, Fgvc, validation_names
from src.records import UserError
from tests.cub import make_cub


@pytest.fixture(scope="module")
def cub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cub(tmp_path_factory.mktemp("data") / "CUB_200_2011", images=3)


def test_the_published_validation_images() -> None:
    names = sorted(name.removeprefix("images/") for name in validation_names("cub", ARCHIVES["cub"]))
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    assert digest == "35bae235b7861d84b6edcaeee9902b0106b16af6c279bf1af5cac79bdb96ab35"


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
    prints = {Fgvc("cub", str(root), subset=True).table.fingerprint() for root in (cub, fewer)}
    assert len(prints) == 2
    assert Fgvc("cub", str(cub), subset=True).table.fingerprint() in prints


def test_what_is_missing_or_wrong_is_a_sentence(cub: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"11779 of the 11788 listed images are missing.*data\.subset=true"):
        _ = Fgvc("cub", str(cub)).table
    with pytest.raises(UserError, match=r"does not exist.*CUB_200_2011\.tgz.*make demo"):
        _ = Fgvc("cub", str(tmp_path / "nothing")).table
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no images\.txt"):
        _ = Fgvc("cub", str(tmp_path / "empty")).table
    with pytest.raises(UserError, match="one of cub"):
        Fgvc("cubs", str(cub))


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("train_test_split.txt", None, r"train_test_split\.txt is missing"),
        ("images.txt", "1 \n", r"images\.txt, line 1"),
        ("image_class_labels.txt", "1 1\n", "list different images"),
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

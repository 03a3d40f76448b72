"""VPT's json lists: obeyed where they agree with the data set's own lists, refused where they do not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.data.fgvc import ARCHIVES, read_lists
from src.data.lists import Listed
from src.data.table import SPLITS
from src.records import UserError

Lists = dict[str, dict[str, Any]]


def vpt(name: str, listed: Listed) -> Lists:
    """The json lists as VPT and its users write them, in another order than the data set's."""
    prefix = ARCHIVES[name].images

    def entry(image: str, label: int) -> tuple[str, Any]:
        number: Any = label + 1
        if name == "cub":
            number = f"{label + 1:03d}"
        elif name == "nabirds":
            number = int(image.split("/")[1])
        elif name == "cars":
            image = f"{image.partition('/')[0]}/{image}"
        return image.removeprefix(prefix), number

    splits = (listed.train, listed.val, listed.test)
    return {split: dict(entry(*item) for item in reversed(items)) for split, items in zip(SPLITS, splits, strict=True)}


def write(root: Path, lists: Lists) -> None:
    for split, entries in lists.items():
        (root / f"{split}.json").write_text(json.dumps(entries))


@pytest.mark.parametrize("name", ARCHIVES)
def test_the_known_membership_is_the_same_with_and_without_json(
    name: str, made: dict[str, Path], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(made[name], tmp_path / "root"))
    without = read_lists(root, ARCHIVES[name])
    write(root, vpt(name, without))
    assert read_lists(root, ARCHIVES[name]) == without


@pytest.mark.parametrize("name", ARCHIVES)
def test_another_membership_is_obeyed_and_marked(name: str, made: dict[str, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(made[name], tmp_path / "root"))
    listed = read_lists(root, ARCHIVES[name])
    lists = vpt(name, listed)
    given, taken = next(iter(lists["train"])), next(iter(lists["val"]))
    lists["val"][given] = lists["train"].pop(given)
    lists["train"][taken] = lists["val"].pop(taken)
    write(root, lists)
    found = read_lists(root, ARCHIVES[name])
    assert {item for item in found.val} ^ {item for item in listed.val} == {listed.train[-1], listed.val[-1]}
    assert sorted(found.train + found.val) == sorted(listed.train + listed.val)
    assert found.test == listed.test
    assert found.marks == ["json split" if name == "cars" else "own split"]


def test_cars_by_six_digits(made: dict[str, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(made["cars"], tmp_path / "root"))
    listed = read_lists(root, ARCHIVES["cars"])
    number = {name: alias for alias, name in listed.aliases.items() if alias.startswith("car_ims/")}
    lists = {
        split: {number[name]: label for name, label in items}
        for split, items in zip(SPLITS, (listed.train, listed.val, listed.test), strict=True)
    }
    write(root, lists)
    assert read_lists(root, ARCHIVES["cars"]) == listed
    (root / "cars_annos.mat").unlink()
    with pytest.raises(UserError, match="add car_ims/"):
        read_lists(root, ARCHIVES["cars"])


def move(lists: Lists, source: str, to: str) -> None:
    name = next(iter(lists[source]))
    lists[to][name] = lists[source].pop(name)


def twice(lists: Lists) -> None:
    lists["val"] |= dict(list(lists["train"].items())[:1])


def relabel(lists: Lists) -> None:
    lists["val"][next(iter(lists["val"]))] = "001" if "200" in lists["val"].values() else 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (twice, r"is in train\.json and in val\.json; an image belongs to one split"),
        (relabel, r"the label 1, which is another class than"),
        (lambda lists: lists["val"].popitem(), r"leave out images/.*1 names differ from the official training images"),
        (lambda lists: lists["test"].popitem(), r"leave out images/.*the official test images"),
        (lambda lists: lists["val"].update({"a.jpg": "001"}), r"add images/a\.jpg"),
        (lambda lists: move(lists, "test", "train"), r"names differ from the official training images"),
        (lambda lists: move(lists, "train", "val"), r"the published split has"),
        (lambda lists: lists.pop("val"), r"no val\.json; add it"),
        (lambda lists: lists.update(val=[1, 2]), r"val\.json is not a list of VPT's"),
        (lambda lists: lists["val"].update({"a.jpg": "one"}), r"val\.json is not a list of VPT's"),
    ],
)
def test_lists_that_contradict_are_a_sentence(
    change: Callable[[Lists], object], sentence: str, made: dict[str, Path], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(made["cub"], tmp_path / "root"))
    lists = vpt("cub", read_lists(root, ARCHIVES["cub"]))
    change(lists)
    write(root, lists)
    with pytest.raises(UserError, match=sentence) as caught:
        read_lists(root, ARCHIVES["cub"])
    assert "\n" not in str(caught.value)

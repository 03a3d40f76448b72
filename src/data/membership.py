"""VPT's json lists, by which an image's split is published: `train.json`, `val.json`, `test.json` in the root."""

import json
from dataclasses import replace
from pathlib import Path

from src.data.lists import Listed, divide
from src.data.table import SPLITS
from src.records import UserError


def follow_json(root: Path, listed: Listed, folder: str) -> Listed:
    """The lists, with the membership that the user's json files state, if there are any.

    folder: of the images, for lists that count from it and not from the root. They decide an image's split alone: order
    and labels stay the data set's own, so that the known membership is the known run. Another validation split than the
    known one has the mark `own split`, for Cars, whose published one is not known, `json split`. Raises UserError for
    lists that contradict the data set's own or each other.
    """
    paths = {split: root / f"{split}.json" for split in SPLITS}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if len(missing) == len(paths):
        return listed
    if missing:
        raise UserError(
            f"{root} has json lists but no {' and no '.join(missing)}; add it, or move the others elsewhere"
        )
    lists = {split: read_list(path) for split, path in paths.items()}
    splits = {
        split: {listed.aliases.get(n, f"{folder}{n}"): v for n, v in found.items()} for split, found in lists.items()
    }
    if not listed.aliases and any(name.startswith("car_ims/") for names in lists.values() for name in names):
        raise UserError(
            f"the json lists in {root} name images as car_ims does; cars_annos.mat joins them with the devkit's, fetch "
            f"it and put it into {root}"
        )
    check_apart(root, splits)
    check_lists(root, splits, listed)
    val = set(splits["val"])
    if val == {name for name, _ in listed.val}:
        return listed
    kept, held = divide([*listed.train, *listed.val], val)
    return replace(listed, train=kept, val=held, marks=["json split" if listed.marks else "own split"])


def read_list(path: Path) -> dict[str, int]:
    """One list, {image: label}. Raises UserError for anything else."""
    try:
        return {name: int(label) for name, label in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not a list of VPT's, one object of image: label ({error}); move it elsewhere to go without"
        ) from error


def check_apart(root: Path, splits: dict[str, dict[str, int]]) -> None:
    """Raise UserError for an image in two of the lists."""
    seen: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            if seen.setdefault(name, split) != split:
                raise UserError(
                    f"{root}: {name} is in {seen[name]}.json and in {split}.json; an image belongs to one split"
                )


def check_lists(root: Path, splits: dict[str, dict[str, int]], listed: Listed) -> None:
    """Raise UserError unless the lists have the official training and test images, with their classes."""
    # The authors number a list's distinct labels in order, whatever they are; here those of all three together.
    labels = sorted({label for names in splits.values() for label in names.values()})
    rank = {label: index for index, label in enumerate(labels)}
    official = {"training": dict([*listed.train, *listed.val]), "test": dict(listed.test)}
    found = {"training": splits["train"] | splits["val"], "test": splits["test"]}
    for kind, items in official.items():
        other = sorted(items.keys() ^ found[kind].keys())
        if other:
            missing = "leave out" if other[0] in items else "add"
            raise UserError(
                f"the json lists in {root} {missing} {other[0]}: {len(other)} names differ from the official {kind} "
                "images; fetch lists of this version, or move them elsewhere"
            )
        for name, label in items.items():
            if rank[found[kind][name]] != label:
                raise UserError(
                    f"the json lists in {root} give {name} the label {found[kind][name]}, which is another class than "
                    f"{listed.classes[label]}; fetch the lists again, or move them elsewhere"
                )

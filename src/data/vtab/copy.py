"""The widely shared copy of VTAB-1k as JPEG files, its lists in vtab-1k/<task>/<split>.txt.

A line of a list is `images/<split>/NNNNNN.jpg LABEL`. The files were saved with Pillow's default quality, also where
the originals are arrays or PNG files, which costs about ten points of accuracy on CIFAR-100; so every record from the
copy says `jpeg copy`.
"""

import logging
from pathlib import Path

from PIL import Image

from src.data.image_files import ImageFiles, Items, existing
from src.data.images import UNREADABLE
from src.data.table import Images, Table
from src.data.vtab.tasks import SOURCES, TASKS, TRAIN, VAL, Task
from src.records import UserError

log = logging.getLogger(__name__)

LISTS = {"train": "train800", "val": "val200", "test": "test"}
MARK = "jpeg copy"
QUALITY_75 = (8, 6, 5, 8, 12, 20, 26, 31)
"""The first row of the luminance table that Pillow's default quality has."""


def read_copy(folder: Path, task: Task, official: bool) -> Table:
    """A task of the copy. official: refuse one with other counts or another encoding than the shared one; else warn.

    Raises UserError for a folder that is not laid out so, and for a task that it does not hold.
    """
    root = find_folder(folder, task)
    items = {split: read_list(root, f"{name}.txt") for split, name in LISTS.items()}
    wrong = list(differences(root, task, items))
    if wrong and official:
        raise UserError(f"{'; '.join(wrong)}; fetch the copy again, or use what is there with data.official=false")
    for sentence in wrong:
        log.warning(sentence)
    if wrong:
        there = existing(root, [name for listed in items.values() for name, _ in listed])
        items = {split: [item for item in listed if item[0] in there] for split, listed in items.items()}
    splits: dict[str, Images] = {split: ImageFiles(root, found) for split, found in items.items()}
    return Table(
        [str(label) for label in range(task.classes)],
        splits,
        official=not wrong,
        marks=[MARK],
        content=MARK,
    )


def find_folder(folder: Path, task: Task) -> Path:
    """The task's folder in the copy. Raises UserError that says which tasks there are."""
    place = place_of(folder, task)
    if place is not None:
        return place
    there = [other.name for other in TASKS.values() if place_of(folder, other)]
    if there:
        raise UserError(f"data.copy={folder} has {', '.join(there)} and not {task.name}; some copies have fewer tasks")
    raise UserError(
        f"data.copy={folder} is not laid out as the shared copy of VTAB-1k: it has no "
        f"{task.folder or task.name}/{LISTS['train']}.txt; give the folder vtab-1k"
    )


def place_of(folder: Path, task: Task) -> Path | None:
    """Where a task lies in the copy, if it does."""
    places = [root / (task.folder or task.name) for root in (folder, folder / "vtab-1k")]
    return next((place for place in places if (place / f"{LISTS['train']}.txt").is_file()), None)


def read_list(root: Path, name: str) -> Items:
    """The images of one list and their labels. Raises UserError naming the line that cannot be read."""
    items: Items = []
    try:
        lines = (root / name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{root / name} cannot be read ({error}); fetch the copy again") from error
    for number, line in enumerate(lines, 1):
        image, _, label = line.strip().rpartition(" ")
        if not image or not label.isdigit() or image.startswith("/") or ".." in image.split("/"):
            raise UserError(f"{root / name}, line {number}, is {line!r}; expected images/<split>/NNNNNN.jpg LABEL")
        items.append((image, int(label)))
    return items


def differences(root: Path, task: Task, items: dict[str, Items]) -> list[str]:
    """In which ways a task's folder is not the shared copy's."""
    found = []
    for split, count in (("train", {TRAIN}), ("val", {VAL}), ("test", test_counts(task))):
        if len(items[split]) not in count:
            found.append(f"{root / LISTS[split]}.txt lists {len(items[split]):,} images and not {min(count):,}")
    places = [name for listed in items.values() for name, _ in listed]
    there = existing(root, places)
    missing = [name for name in places if name not in there]
    if missing:
        found.append(f"{len(missing):,} listed images are missing below {root}, {missing[0]} for one")
    if items["train"] and items["train"][0][0] not in missing:
        found += encoding(root / items["train"][0][0])
    return found


def test_counts(task: Task) -> set[int]:
    """How many test images the task has."""
    source = SOURCES[task.source]
    return {count - source.test.start(count) for count in source.sizes[source.test.split]}


def encoding(path: Path) -> list[str]:
    """A sentence if an image is not encoded as those of the shared copy are."""
    try:
        with Image.open(path) as image:
            tables = getattr(image, "quantization", None)
    except UNREADABLE as error:
        raise UserError(f"the image {path} cannot be read ({error}); fetch the copy again") from error
    if tables and tuple(tables[0][: len(QUALITY_75)]) == QUALITY_75:
        return []
    return [f"{path} is not a JPEG of quality 75, as those of the shared copy are"]

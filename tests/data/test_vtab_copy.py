"""The widely shared copy of VTAB-1k as JPEG files: recognised, checked, marked."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.data.vtab.module import Vtab
from src.records import UserError
from tests.vtab_formats import encode, picture

PROJECT = Path(__file__).parents[2]


def make_copy(folder: Path, kinds: tuple[int, int, int] = (800, 200, 711), quality: int | None = None) -> Path:
    """KITTI's part of vtab-1k, its images hard links to one file."""
    root = folder / "vtab-1k" / "kitti"
    buffer = io.BytesIO()
    picture("copy", 8, 8).save(buffer, "JPEG", **({} if quality is None else {"quality": quality}))
    for split, count in zip(("train800", "val200", "test"), kinds, strict=True):
        (root / "images" / split).mkdir(parents=True)
        first = root / "images" / split / "000000.jpg"
        first.write_bytes(buffer.getvalue())
        for i in range(1, count):
            os.link(first, first.with_name(f"{i:06d}.jpg"))
        lines = [f"images/{split}/{i:06d}.jpg {i % 4}\n" for i in range(count)]
        (root / f"{split}.txt").write_text("".join(lines))
    return folder / "vtab-1k"


def copied(folder: Path, task: str = "kitti_dist", **options: Any) -> Vtab:
    return Vtab(task, "nowhere", copy=str(folder), **{"stage": "final", "image_size": 64} | options)


def test_the_shared_copy_is_read_as_it_is_and_marked(tmp_path: Path) -> None:
    folder = make_copy(tmp_path)
    for given in (folder, tmp_path):
        module = copied(given)
        table = module.table
        assert [len(images.labels) for images in table.splits.values()] == [1000, 0, 711]
        assert (table.official, table.marks, len(table.classes)) == (True, ["jpeg copy"], 4)
    content = (folder / "kitti" / "images" / "test" / "000000.jpg").read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        np.testing.assert_array_equal(table.splits["test"].pixels(3).permute(1, 2, 0).numpy(), np.asarray(image))
    assert module.preprocessing()["decoder"] == "JPEG as Pillow"
    assert [len(images.labels) for images in copied(folder, stage="tune").table.splits.values()] == [800, 200, 0]


def test_the_copy_names_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has kitti_dist and not dtd; some copies have fewer tasks"):
        _ = copied(make_copy(tmp_path, (1, 1, 1)), "dtd").table
    with pytest.raises(UserError, match=r"not laid out as the shared copy .* no dsprites_loc/train800\.txt"):
        _ = copied(tmp_path / "elsewhere", "dspr_loc").table


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kinds": (800, 199, 711)}, r"val200\.txt lists 199 images and not 200"),
        ({"kinds": (800, 200, 710)}, r"test\.txt lists 710 images and not 711"),
        ({"quality": 95}, r"000000\.jpg is not a JPEG of quality 75"),
    ],
)
def test_another_copy_is_refused_unless_accepted(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    folder = make_copy(tmp_path, **options)
    with pytest.raises(UserError, match=sentence + ".*data.official=false"):
        _ = copied(folder).table
    table = copied(folder, official=False).table
    assert (table.official, table.marks) == (False, ["jpeg copy"])


@pytest.mark.parametrize(
    "line", ["", "images/test/000000.jpg", "images/test/000000.jpg -1", "/etc/passwd 1", "images/../../x.jpg 1"]
)
def test_a_bad_line_is_named(line: str, tmp_path: Path) -> None:
    folder = make_copy(tmp_path, (1, 1, 3))
    (folder / "kitti" / "test.txt").write_text(f"images/test/000000.jpg 0\n{line}\nimages/test/000002.jpg 1\n")
    with pytest.raises(UserError, match=r"test\.txt, line 2, is .*; expected images/<split>/NNNNNN\.jpg LABEL"):
        _ = copied(folder, official=False).table


def test_an_image_that_is_missing_in_the_copy_and_one_of_another_kind(tmp_path: Path) -> None:
    folder = make_copy(tmp_path)
    images = folder / "kitti" / "images"
    (images / "test" / "000700.jpg").unlink()
    with pytest.raises(UserError, match=r"1 listed images are missing below .*, images/test/000700\.jpg for one"):
        _ = copied(folder).table
    (images / "train800" / "000000.jpg").unlink()
    (images / "train800" / "000000.jpg").write_bytes(encode(picture("copy", 8, 8), "PNG"))
    with pytest.raises(UserError, match=r"000000\.jpg is not a JPEG of quality 75"):
        _ = copied(folder).table
    (images / "train800" / "000000.jpg").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"000000\.jpg cannot be read"):
        _ = copied(folder).table

"""Where CUB's birds are: boxes and masks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.data.cub import CubImages
from src.data.fgvc import Fgvc
from src.records import UserError
from tests.archives import shared
from tests.cub import make_cub


def images(root: Path, split: str = "test") -> CubImages:
    found = Fgvc("cub", str(root), subset=True).table.splits[split]
    assert isinstance(found, CubImages)
    return found


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    root = make_cub(tmp_path / "CUB_200_2011", images=2)
    keys = [line.split()[0] for line in (root / "images.txt").read_text().splitlines()]
    (root / "bounding_boxes.txt").write_text("\n".join(f"{key} {key}.0 2.5 30.0 40.0" for key in keys))
    return root


def test_boxes_are_those_of_the_images_that_are_there(cub: Path) -> None:
    found = images(cub)
    keys = {line.split()[1]: int(line.split()[0]) for line in (cub / "images.txt").read_text().splitlines()}
    expected = [[keys[name.removeprefix("images/")], 2.5, 30.0, 40.0] for name in found.names]
    assert found.boxes().tolist() == expected
    for root in shared("CUB_200_2011"):
        real = images(root)
        boxes = real.boxes()
        assert boxes.shape == (80, 4)
        height, width = real.pixels(3).shape[1:]
        left, top, wide, high = boxes[3].tolist()
        assert 0 <= left < left + wide <= width
        assert 0 <= top < top + high <= height


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_masks_lie_in_the_root_or_beside_it(cub: Path, inside: bool, mode: str) -> None:
    found = images(cub)
    path = (cub if inside else cub.parent) / "segmentations" / found.names[0].removeprefix("images/")
    path = path.with_suffix(".png")
    path.parent.mkdir(parents=True)
    grey = np.zeros((70, 90), dtype=np.uint8)
    grey[10:20, 30:50] = 255
    grey[10:20, 50:60] = 128
    grey[10:20, 60:70] = 127
    Image.fromarray(grey).convert(mode, dither=Image.Dither.NONE).save(path)
    expected = torch.zeros(70, 90, dtype=torch.bool)
    expected[10:20, 30:60] = True
    assert torch.equal(found.mask(0), expected)


def test_what_is_missing_is_a_sentence(cub: Path) -> None:
    found = images(cub)
    with pytest.raises(UserError, match=r"no mask segmentations/.*segmentations\.tgz"):
        found.mask(1)
    path = cub / "segmentations" / Path(found.names[1]).relative_to("images").with_suffix(".png")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"the mask .* cannot be read"):
        found.mask(1)
    for text in ("1 60.0 27.0 325.0\n", "1 a b c d\n", ""):
        (cub / "bounding_boxes.txt").write_text(text)
        with pytest.raises(UserError, match=r"bounding_boxes\.txt has no box of four numbers"):
            found.boxes()
    (cub / "bounding_boxes.txt").unlink()
    with pytest.raises(UserError, match=r"bounding_boxes\.txt is missing"):
        found.boxes()

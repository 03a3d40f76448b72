"""What CUB tells of its images beyond their class: where the bird is."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from src.data.image_files import ImageFiles
from src.data.lists import read_pairs
from src.records import UserError

MASK_THRESHOLD = 128
"""Grey from which on a pixel of a mask is the bird; the masks' edges are not pure black and white."""


class CubImages(ImageFiles):
    """CUB's images, with the bird's box and mask."""

    def boxes(self) -> Tensor:
        """Every image's box, in pixels of the original image: float32 (N, 4), left, top, width, height.

        Read from `bounding_boxes.txt`; one official box (Gray_Catbird_0032_21551) leaves its image. Raises UserError.
        """
        path = self.root / "bounding_boxes.txt"
        keys = {f"images/{name}": key for key, name in read_pairs(self.root / "images.txt")}
        boxes = dict(read_pairs(path))
        try:
            rows = [[float(number) for number in boxes[keys[name]].split()] for name in self.names]
            return torch.tensor(rows).view(-1, 4)
        except (KeyError, ValueError, RuntimeError) as error:
            raise UserError(f"{path} has no box of four numbers for every image ({error}); unpack it again") from error

    def mask(self, example: int) -> Tensor:
        """Where the bird is: bool (H, W), of the original image's size. Raises UserError if there is no mask."""
        name = Path(self.names[example]).relative_to("images").with_suffix(".png")
        for folder in (self.root / "segmentations", self.root.parent / "segmentations"):
            if (folder / name).is_file():
                return read_mask(folder / name)
        raise UserError(
            f"there is no mask segmentations/{name} in {self.root} or beside it; fetch segmentations.tgz (39 MB, "
            f"CaltechDATA record w9d68-gec53) and unpack it there"
        )


def read_mask(path: Path) -> Tensor:
    """A mask file as bool (H, W). Raises UserError if it cannot be read."""
    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image.convert("L")) >= MASK_THRESHOLD)
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"the mask {path} cannot be read ({error}); unpack segmentations.tgz again") from error

"""Reading one image file into RGB, whatever it is."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from src.records import UserError

# torchvision announces since 0.29 that its decoders will go; until then they are the fastest that every install has.
warnings.filterwarnings("ignore", message=".*image decoding and encoding capabilities of TorchVision.*")

# Pillow refuses larger images as decompression bombs only above twice this; photographs of 12,000 x 12,000 are real.
Image.MAX_IMAGE_PIXELS = 300_000_000


def read_image(path: Path, upright: bool = False) -> Tensor:
    """The image as uint8 RGB (3, H, W).

    upright: obey the EXIF orientation, as for a user's own photographs; the published data sets are read as stored,
    since their protocols ignore the tag. Grey, palette and CMYK images become RGB; transparent ones lie on white.
    Plain JPEGs go through torchvision's decoder, which is faster than Pillow's and gives the same pixels.
    Raises UserError naming the path if the file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            turned = upright and image.getexif().get(0x0112, 1) != 1
            if image.format == "JPEG" and image.mode in ("RGB", "L") and not turned:
                data = torch.from_numpy(np.fromfile(path, dtype=np.uint8))
                decoded: Tensor = decode_image(data, mode=ImageReadMode.RGB)
                return decoded
            return to_tensor(ImageOps.exif_transpose(image) if turned else image)
    except (OSError, RuntimeError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(unreadable(path, error)) from error


def to_tensor(image: Image.Image) -> Tensor:
    """A Pillow image as uint8 RGB (3, H, W); what is transparent shows a white ground."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def unreadable(path: Path, error: Exception) -> str:
    """One sentence on why an image file could not be read."""
    if isinstance(error, FileNotFoundError):
        return f"the image {path} is missing"
    if isinstance(error, PermissionError):
        return f"the image {path} may not be read; check its permissions"
    if path.is_file() and path.stat().st_size == 0:
        return f"the image {path} is empty (0 bytes); fetch it again"
    return f"the image {path} cannot be decoded, it is truncated or not an image; fetch it again or remove it ({error})"

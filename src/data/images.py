"""Reading one image file into RGB, whatever it is."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from simplejpeg import decode_jpeg, decode_jpeg_header
from torch import Tensor

from src.records import UserError

# Pillow refuses larger images as decompression bombs only above twice this; photographs of 12,000 x 12,000 are real.
Image.MAX_IMAGE_PIXELS = 300_000_000

JPEG = b"\xff\xd8\xff"
ORIENTATION = 0x0112


def read_image(path: Path, upright: bool = False, fast: bool = False) -> Tensor:
    """The image as uint8 RGB (3, H, W).

    upright: obey the EXIF orientation, as for a user's own photographs; the published data sets are read as stored,
    since their protocols ignore the tag. fast: see decode. Raises UserError naming the path if the file cannot be read
    as an image.
    """
    try:
        return decode(path.read_bytes(), upright, fast)
    except UNREADABLE as error:
        raise UserError(unreadable(path, error)) from error


UNREADABLE = (OSError, RuntimeError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
"""What decoding raises for bytes that are no whole image."""


def decode(content: bytes, upright: bool = False, fast: bool = False) -> Tensor:
    """An encoded image as uint8 RGB (3, H, W). Grey, palette and CMYK become RGB; transparent ones lie on white.

    Plain JPEGs take the shortest way, whose pixels are Pillow's. fast: with libjpeg's fast transform instead, as
    TensorFlow decodes them. Raises one of UNREADABLE.
    """
    if content.startswith(JPEG) and not upright:
        try:
            height, width, colours, _ = decode_jpeg_header(content)
            if colours in ("YCbCr", "Gray", "RGB") and height * width <= Image.MAX_IMAGE_PIXELS:
                return torch.from_numpy(decode_jpeg(content, fastdct=fast)).permute(2, 0, 1)
        except ValueError:
            pass  # Pillow judges what is damaged: stray bytes between its parts do not make a JPEG unreadable
    with Image.open(io.BytesIO(content)) as image:
        if upright and image.getexif().get(ORIENTATION, 1) != 1:
            return to_tensor(ImageOps.exif_transpose(image))
        if upright and image.format == "JPEG":
            return decode(content, fast=fast)
        return to_tensor(image)


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

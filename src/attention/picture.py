"""One picture of where methods look: a row of images, then a row a method with its attention over them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from src.records import atomic

Bytes = NDArray[np.uint8]

# Nine even samples of matplotlib's "inferno" (CC0): brightness rises evenly, so that it reads in grey and to the
# colour-blind. Matplotlib itself is only in the extra `report`.
INFERNO = np.array(
    [
        (0, 0, 4),
        (33, 12, 74),
        (87, 16, 110),
        (138, 34, 106),
        (188, 55, 84),
        (228, 90, 49),
        (249, 142, 9),
        (249, 203, 53),
        (252, 255, 164),
    ],
    dtype=np.float64,
)
HEAT = 0.65  # opacity of the heat over the image
TILE, GAP, MARGIN = 144, 6, 14  # pixels
FONT_SIZE = 17
PAPER, WRITING, FAINT = (255, 255, 255), (20, 20, 20), (90, 90, 90)


def heat(values: NDArray[np.floating]) -> Bytes:
    """Values (...) from 0 to 1 as colours (..., 3), dark to bright; what lies outside is clipped."""
    steps = np.linspace(0, 1, len(INFERNO))
    return np.stack([np.interp(values, steps, channel) for channel in INFERNO.T], axis=-1).round().astype(np.uint8)


def overlay(image: Bytes, attention: NDArray[np.floating], mask: NDArray[np.bool_] | None = None) -> Bytes:
    """An attention map as heat over its image in grey, the object outlined in white if it is known: (3, S, S) uint8.

    `image` (3, S, S) RGB; `attention` (gh, gw), not negative, enlarged bilinearly, its largest value
    brightest; `mask` (S, S).
    """
    size = (image.shape[2], image.shape[1])
    scaled = Image.fromarray((attention / max(float(attention.max()), 1e-12)).astype(np.float32))
    colours = heat(np.asarray(scaled.resize(size, Image.Resampling.BILINEAR)))
    grey = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))[..., None]
    mixed = (HEAT * colours + (1 - HEAT) * grey).round().astype(np.uint8)
    if mask is not None:
        mixed[_outline(mask)] = 255
    return np.ascontiguousarray(mixed.transpose(2, 0, 1))


def contact_sheet(rows: Sequence[tuple[str, Sequence[Bytes]]], outlined: bool = True) -> Image.Image:
    """One picture of rows of tiles, each row with its title at the left, and under them what the colours mean.

    `rows` pairs of a title, which may have several lines, and tiles (3, S, S) RGB uint8; `outlined` whether the
    overlays have their objects outlined. Raises `ValueError` where there is no tile.
    """
    columns = max((len(tiles) for _, tiles in rows), default=0)
    if not columns:
        raise ValueError("a contact sheet needs at least one tile")
    font = ImageFont.load_default(size=FONT_SIZE)
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left = 2 * MARGIN + round(max(ruler.multiline_textbbox((0, 0), title, font=font)[2] for title, _ in rows))
    step = TILE + GAP
    foot = MARGIN + len(rows) * step
    key = _key(outlined)
    width = left + max(columns * step - GAP, key.width) + MARGIN
    sheet = Image.new("RGB", (width, foot + key.height + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, (title, tiles) in enumerate(rows):
        top = MARGIN + row * step
        draw.multiline_text((MARGIN, top + TILE // 2), title, fill=WRITING, font=font, anchor="lm", spacing=6)
        for column, tile in enumerate(tiles):
            picture = Image.fromarray(np.ascontiguousarray(tile.transpose(1, 2, 0)))
            sheet.paste(picture.resize((TILE, TILE), Image.Resampling.BICUBIC), (left + column * step, top))
    sheet.paste(key, (left, foot))
    return sheet


def save_png(image: Image.Image, path: Path) -> None:
    """Write a picture as PNG so that `path` is never half a picture. Raises UserError if the disk is full."""
    with atomic(path) as file:
        image.save(file, format="PNG")


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels just outside a mask."""
    padded = np.pad(mask, 1)
    grown = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return grown & ~mask


def _key(outlined: bool) -> Image.Image:
    """What the colours of `overlay` mean, in one line."""
    font = ImageFont.load_default(size=FONT_SIZE - 2)
    before, after = "no attention", "the tile's largest"
    if outlined:
        after += "; outlined in white: the object"
    start = round(font.getlength(before)) + GAP
    end = start + TILE + GAP
    key = Image.new("RGB", (end + round(font.getlength(after)), 2 * FONT_SIZE), PAPER)
    draw = ImageDraw.Draw(key)
    draw.text((0, FONT_SIZE), before, fill=FAINT, font=font, anchor="lm")
    draw.text((end, FONT_SIZE), after, fill=FAINT, font=font, anchor="lm")
    bar = np.tile(heat(np.linspace(0, 1, TILE)), (FONT_SIZE, 1, 1))
    key.paste(Image.fromarray(bar), (start, FONT_SIZE // 2))
    return key

"""The demo's data: real handwritten digits, each hidden in a generated scene whose object mask is known.

Digits: scikit-learn's `load_digits` (1,797 images, 8x8, from the UCI "Optical Recognition of Handwritten Digits").
Everything here is integer arithmetic, so that a scene has the same bits in every process.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from src.records.errors import UserError

Bytes = NDArray[np.uint8]

SPLITS = {"train": (0.0, 0.6), "val": (0.6, 0.75), "test": (0.75, 1.0)}  # shares of a class's images
INK = 96  # a pixel of an enlarged digit belongs to the object from this grey value on (0 to 240)
SHARPNESS = 3  # slope of opacity around INK: the mask is where the digit is at least half opaque
CONTRAST = 80  # luma by which ink is brighter than what it is painted on, where the background allows it
INK_DARKEST, SHAPE_BRIGHTEST = 96, 160  # digits and scrambled digits are bright, the rest is darker
EASY_STRIDE = 0.6180339887498949  # spreads the easy scenes evenly over a class, whatever their share
CANDIDATES = 16  # colours and places that are tried for it
NOISE_CELLS = 5  # the smooth background is this many cells wide
DRAWN_FOR = 64  # the image size that the lengths below are given for, in pixels
DIGIT_SIDES = (22, 34)
EASY_SIDES = (34, 60)
SHAPE_SIDES = (10, 28)
STROKE_WIDTHS = (2, 5)
SMALLEST = 32  # pixels; digits of fewer than 11 pixels are not legible
# Where the blocks 0 1 / 2 3 of a scrambled digit come from: each row was a column, so that no two blocks keep their
# neighbour. With a half left whole an 8 may pass for a 3.
SCRAMBLES = (
    (0, 2, 1, 3),
    (0, 2, 3, 1),
    (2, 0, 1, 3),
    (2, 0, 3, 1),
    (1, 3, 0, 2),
    (1, 3, 2, 0),
    (3, 1, 0, 2),
    (3, 1, 2, 0),
)


@dataclass(frozen=True, eq=False)
class Scene:
    """One image, its label, and where its object is.

    `image` (3, S, S) uint8 RGB; `label` the position of the digit's class among the classes asked for; `mask` (S, S)
    bool, true on the digit's ink.
    """

    image: Bytes
    label: int
    mask: NDArray[np.bool_]


@cache
def digits() -> tuple[Bytes, NDArray[np.int64]]:
    """The digit images (1797, 8, 8) uint8, 0 to 16, and their classes (1797,)."""
    from sklearn.datasets import load_digits  # a second to import, and listing the data needs none of it

    images, classes = load_digits(return_X_y=True)
    return images.astype(np.uint8).reshape(-1, 8, 8), classes.astype(np.int64)


def digit_partition(classes: Sequence[int], split: str) -> list[int]:
    """The indices of the digit images of some classes in one split, class after class.

    The splits of a class are disjoint, cover it, and depend neither on a seed nor on the other classes. Raises
    `UserError` for an unknown split, and for classes that are not different digits.
    """
    if split not in SPLITS:
        raise UserError(f"scenes have no split '{split}'; choose one of {', '.join(SPLITS)}")
    if not classes or len(set(classes)) < len(classes) or not set(classes) <= set(range(10)):
        raise UserError(f"the classes of scenes are {list(classes)}; give different digits from 0 to 9")
    _, targets = digits()
    chosen: list[int] = []
    for wanted in classes:
        # Neighbours in the file come from one writer: shuffled, every split sees every writer.
        members = np.random.default_rng(np.random.SeedSequence([wanted])).permutation(np.flatnonzero(targets == wanted))
        start, stop = (round(share * len(members)) for share in SPLITS[split])
        chosen += members[start:stop].tolist()
    return chosen


def make_scene(
    seed: Sequence[int], digit: Bytes, label: int, decoys: Bytes, size: int = 64, easy: bool = False
) -> Scene:
    """One digit in front of three to six distractors on smooth noise; a function of its arguments only.

    `seed` numbers that name the scene; `digit` (8, 8), 0 to 16; `decoys` (n, 8, 8), the digits that scrambled ones are
    made of; `size` pixels a side; `easy` scenes have one large digit and no distractors.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    canvas = _background(rng, size)
    side = _length(rng, EASY_SIDES if easy else DIGIT_SIDES, size)
    place = rng.integers(0, size - side + 1, 2)
    scrambled = 0 if easy else int(rng.integers(1, 3))
    for _ in range(0 if easy else int(rng.integers(3, 7)) - scrambled):
        _draw_shape(rng, canvas, size)
    for decoy in decoys[rng.integers(0, len(decoys), scrambled)]:
        other = _length(rng, DIGIT_SIDES, size)
        places = rng.integers(0, size - other + 1, (CANDIDATES, 2))
        # The first clear of the digit, else the farthest: what lies under it shows too little to mislead.
        distance = np.abs(2 * places + other - 2 * place - side).max(axis=1)
        _paint(rng, canvas, _scramble(rng, decoy), other, places[np.minimum(distance, side + other).argmax()])
    ink = _paint(rng, canvas, digit, side, place)
    grain = rng.integers(-8, 9, (size, size, 3), dtype=np.int16)
    image = np.clip(np.asarray(canvas, dtype=np.int16) + grain, 0, 255).astype(np.uint8)
    mask = np.zeros((size, size), dtype=np.bool_)
    mask[place[1] : place[1] + side, place[0] : place[0] + side] = ink
    return Scene(np.ascontiguousarray(image.transpose(2, 0, 1)), label, mask)


class Scenes:
    """A split of generated scenes with balanced labels; scene i is made when it is asked for.

    Labels go round the classes, so every stretch of scenes is balanced. A digit image comes again only after all of its
    class in this split have been used. Of all scenes, the share `easy` has one large digit and no distractors: a
    network that starts from nothing learns from those first. Raises `UserError` for an empty set or images too
    small to read.
    """

    def __init__(
        self, classes: Sequence[int], split: str, count: int, seed: int, size: int = 64, easy: float = 0.0
    ) -> None:
        if count < 1:
            raise UserError(f"the number of scenes is {count}; give at least 1")
        if size < SMALLEST:
            raise UserError(f"scenes of {size} pixels are too small to read; give at least {SMALLEST}")
        if seed < 0:
            raise UserError(f"the seed of scenes is {seed}; give 0 or a positive number")
        self.classes, self.split, self.count, self.seed, self.size = tuple(classes), split, count, seed, size
        self.easy = easy
        images, _ = digits()
        self.decoys = images[digit_partition(self.classes, split)]
        # The name of this set: other classes or another split get other backgrounds, too.
        self.name = (seed, list(SPLITS).index(split), len(self.classes), *self.classes)
        rng = np.random.default_rng(np.random.SeedSequence(self.name))
        self.orders = [rng.permutation(digit_partition([wanted], split)) for wanted in self.classes]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Scene]:
        return map(self.__getitem__, range(self.count))

    def __getitem__(self, index: int) -> Scene:
        index = range(self.count)[index]
        turn, label = divmod(index, len(self.classes))
        order = self.orders[label]
        digit = digits()[0][order[turn % len(order)]]
        easy = (turn * EASY_STRIDE) % 1 < self.easy
        return make_scene((*self.name, index), digit, label, self.decoys, self.size, easy)


def _length(rng: np.random.Generator, bounds: tuple[int, int], size: int) -> int:
    return int(rng.integers(bounds[0] * size // DRAWN_FOR, bounds[1] * size // DRAWN_FOR + 1))


def _background(rng: np.random.Generator, size: int) -> Image.Image:
    cells = rng.integers(40, 120, 3) + rng.integers(-40, 41, (NOISE_CELLS, NOISE_CELLS, 3))
    return Image.fromarray(cells.astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)


def _draw_shape(rng: np.random.Generator, canvas: Image.Image, size: int) -> None:
    draw = ImageDraw.Draw(canvas)
    colour = tuple(rng.integers(0, SHAPE_BRIGHTEST + 1, 3).tolist())
    width, height = _length(rng, SHAPE_SIDES, size), _length(rng, SHAPE_SIDES, size)
    left, top = rng.integers(0, size, 2) - (width // 2, height // 2)
    box = (int(left), int(top), int(left) + width, int(top) + height)
    kind = rng.integers(0, 3)
    if kind == 0:
        draw.rectangle(box, fill=colour)
    elif kind == 1:
        draw.ellipse(box, fill=colour)
    else:
        bend = tuple(rng.integers(0, size, 2).tolist())
        draw.line([box[:2], box[2:], bend], fill=colour, width=_length(rng, STROKE_WIDTHS, size), joint="curve")


def _scramble(rng: np.random.Generator, digit: Bytes) -> Bytes:
    blocks = digit.reshape(2, 4, 2, 4).swapaxes(1, 2).reshape(4, 4, 4)
    blocks = blocks[list(SCRAMBLES[rng.integers(0, len(SCRAMBLES))])]
    return blocks.reshape(2, 2, 4, 4).swapaxes(1, 2).reshape(8, 8)


def _paint(
    rng: np.random.Generator, canvas: Image.Image, digit: Bytes, side: int, place: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Paints a digit of `side` pixels with its upper left corner at `place` (x, y); returns its ink (side, side)."""
    box = (int(place[0]), int(place[1]), int(place[0]) + side, int(place[1]) + side)
    grey = np.asarray(Image.fromarray(digit * 15).resize((side, side), Image.Resampling.BICUBIC), dtype=np.int16)
    opacity = np.clip((grey - INK) * SHARPNESS + 128, 0, 255).astype(np.uint8)
    under = np.asarray(canvas.crop(box).resize((4, 4), Image.Resampling.BOX), dtype=np.int64).reshape(-1, 3)
    colours = rng.integers(INK_DARKEST, 256, (CANDIDATES, 3))
    contrast = (_luma(colours)[:, None] - _luma(under)).min(axis=1)
    # The first that is good enough, else the best: always the best would make every digit white.
    colour = colours[np.minimum(contrast, CONTRAST).argmax()]
    canvas.paste(tuple(colour.tolist()), box, Image.fromarray(opacity))
    return grey >= INK


def _luma(colours: NDArray[np.int64]) -> NDArray[np.int64]:
    """Brightness of RGB colours (..., 3), 0 to 255 (the weights of ITU-R BT.601)."""
    luma: NDArray[np.int64] = (colours @ np.array([77, 150, 29])) >> 8
    return luma

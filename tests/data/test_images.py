"""Every kind of image file becomes RGB, or is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.data.images import read_image
from src.records import UserError
from tests.cub import picture


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def as_array(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_reads_as_pillow_reads_it(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path / "a.jpg", picture(1).convert(mode), quality=90)
    image = read_image(path)
    assert image.dtype == torch.uint8
    # Decoders may differ by a few grey levels where they are built with another libjpeg.
    assert (image.int() - as_array(Image.open(path)).int()).abs().max() <= 3


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "I;16"])
def test_other_formats_read_as_pillow_reads_them(tmp_path: Path, mode: str) -> None:
    source = picture(2)
    image = source.convert("I;16") if mode == "I;16" else source.convert(mode)
    path = saved(tmp_path / "a.png", image)
    assert torch.equal(read_image(path), as_array(Image.open(path)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(tmp_path: Path, mode: str) -> None:
    if mode == "P":
        image = Image.new("P", (8, 8), 0)
        image.putpalette([255, 0, 0] * 256)
        path = saved(tmp_path / "a.png", image, transparency=0)
    else:
        path = saved(tmp_path / "a.png", Image.new("RGBA", (8, 8), (255, 0, 0, 0)).convert(mode))
    assert bool((read_image(path) == 255).all())


def test_the_exif_orientation_is_obeyed_only_when_asked(tmp_path: Path) -> None:
    upright = picture(3)
    tag = Image.Exif()
    tag[0x112] = 6
    path = saved(tmp_path / "a.jpg", upright.transpose(Image.Transpose.ROTATE_90), exif=tag, quality=95)
    assert read_image(path).shape == (3, 90, 70)
    turned = read_image(path, upright=True)
    assert turned.shape == (3, 70, 90)
    assert (turned.int() - as_array(upright).int()).abs().float().mean() < 3


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"not an image at all", "cannot be decoded"),
        (None, "is missing"),
        ("cut", "cannot be decoded"),
    ],
)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_bad_file_is_named(tmp_path: Path, content: bytes | str | None, sentence: str, suffix: str) -> None:
    path = tmp_path / f"b ad,.{suffix}"
    if content == "cut":
        whole = saved(path, picture(4, 200, 300)).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(UserError, match=sentence) as caught:
        read_image(path)
    assert str(path) in str(caught.value)

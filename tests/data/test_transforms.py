"""Resize, crop and normalise against torchvision's own transforms on Pillow images, which the authors use."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as reference

from src.data.images import to_tensor
from src.data.transforms import IMAGENET_MEAN, IMAGENET_STD, CropTransform, EvalTransform
from tests.cub import picture


@pytest.mark.parametrize(("crop", "resize"), [(224, 256), (384, 438), (448, 512), (64, 73)])
def test_the_ratio_of_resize_to_crop(crop: int, resize: int) -> None:
    assert CropTransform(crop).resize == resize


@pytest.mark.parametrize(("height", "width"), [(70, 90), (375, 500), (500, 333), (73, 73), (80, 61)])
def test_evaluation_is_the_authors_to_a_grey_level(height: int, width: int) -> None:
    image = picture(5, height, width)
    resized = reference.resize(image, 73)
    # torchvision 0.8.2, which the authors pin: the offset is int((d + 1) * 0.5).
    left, top = ((side - 64 + 1) // 2 for side in resized.size)
    expected = torch.from_numpy(np.array(resized.crop((left, top, left + 64, top + 64)))).permute(2, 0, 1)
    found = CropTransform(64)(to_tensor(image))
    assert (found.int() - expected.int()).abs().max() <= 1


def test_training_draws_row_column_and_flip_from_its_generator() -> None:
    image = to_tensor(picture(6, 300, 400))
    transform = CropTransform(64)
    seen = set()
    for seed in range(40):
        first = transform(image, np.random.default_rng(seed))
        assert torch.equal(first, transform(image, np.random.default_rng(seed)))
        assert first.shape == (3, 64, 64)
        seen.add(first.numpy().tobytes())
    assert len(seen) > 30


def test_a_saved_models_transform_is_the_test_splits() -> None:
    image = picture(7)
    found = EvalTransform(CropTransform(64), IMAGENET_MEAN, IMAGENET_STD)(image)
    pixels = CropTransform(64)(to_tensor(image))
    expected = reference.normalize(pixels / 255, list(IMAGENET_MEAN), list(IMAGENET_STD))
    torch.testing.assert_close(found, expected)

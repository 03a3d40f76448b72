"""The loaders: the same examples, in the same order, augmented alike, whoever loads them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from src.data.batches import Batch
from src.data.fgvc import Fgvc
from src.data.module import ImageData
from tests.cub import make_cub


@pytest.fixture(scope="module")
def cub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cub(tmp_path_factory.mktemp("data") / "CUB_200_2011", images=7)


def data(root: Path, **options: object) -> ImageData:
    return Fgvc("cub", str(root), subset=True, batch_size=3, image_size=32, seed=1, **options)


def epoch_of(module: ImageData, epoch: int) -> dict[int, Tensor]:
    """Every training image of an epoch as the network gets it, by example, in the order of the batches."""
    loader = module.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
    images: dict[int, Tensor] = {}
    for batch in loader:
        assert isinstance(batch, Batch)
        assert batch.images.dtype == torch.uint8
        images |= dict(zip(batch.examples.tolist(), batch.images, strict=True))
    return images


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(cub: Path, workers: int) -> None:
    for epoch in (0, 2):
        alone, many = epoch_of(data(cub, workers=0), epoch), epoch_of(data(cub, workers=workers), epoch)
        assert list(alone) == list(many)
        assert all(torch.equal(alone[example], many[example]) for example in alone)


def test_epochs_show_other_crops_unless_told_to_repeat(cub: Path) -> None:
    def epochs(**options: object) -> list[dict[int, Tensor]]:
        return [epoch_of(data(cub, workers=0, **options), epoch) for epoch in range(3)]

    first, second, third = epochs()
    assert list(first) != list(second)
    assert sum(torch.equal(first[e], second[e]) for e in first) < 2
    assert sum(torch.equal(second[e], third[e]) for e in first) < 2
    first, second, third = epochs(same_epoch=True)
    assert list(first) == list(second) == list(third)
    assert all(torch.equal(first[e], third[e]) for e in first)


def test_the_test_split_is_not_augmented_and_keeps_its_order(cub: Path) -> None:
    module = data(cub, workers=0)
    batches = [list(module.test_dataloader()) for _ in range(2)]
    assert torch.cat([b.examples for b in batches[0]]).tolist() == list(range(7))
    assert all(torch.equal(a.images, b.images) for a, b in zip(*batches, strict=True))


def test_normalisation_is_imagenets_or_the_backbones(cub: Path) -> None:
    batch = next(iter(data(cub, workers=0).test_dataloader()))
    for options, mean, std in (
        ({}, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ({"normalisation": "backbone"}, (0.5,) * 3, (0.5,) * 3),
    ):
        module = data(cub, workers=0, **options)
        module.fit_backbone(32, (0.5,) * 3, (0.5,) * 3)
        found = module.on_after_batch_transfer(batch, 0).images
        expected = (batch.images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        torch.testing.assert_close(found, expected)
        assert module.preprocessing()["mean"] == list(mean)

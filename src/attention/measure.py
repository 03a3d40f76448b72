"""The class token's attention in a model's last block and last pass, for images of a split."""

from collections.abc import Iterable

import torch
from torch import Tensor

from src.attention.maps import chance, class_token_map, overlap
from src.data.digits import SceneImages
from src.data.module import ImageData
from src.data.transforms import normalise
from src.methods import Method, Vpt

BATCH = 64


@torch.no_grad()
def attention_maps(method: Method, images: Tensor) -> Tensor:
    """Maps (B, gh, gw), sum 1 an image, of normalised images (B, 3, H, W)."""
    name = f"pass{method.passes}.block{method.depth - 1}.attention"
    attention = method(images, want=(name,)).intermediates[name]
    prompts = method.prompts.shape[1] if isinstance(method, Vpt) else 0
    backbone = method.backbone
    return class_token_map(attention, backbone.patch_embed.grid_size, backbone.num_prefix_tokens, prompts)


def scene_maps(method: Method, data: ImageData, examples: Iterable[int]) -> tuple[Tensor, Tensor]:
    """Maps (n, gh, gw) and object masks (n, H, W) of test scenes."""
    images = data.table.splits["test"]
    assert isinstance(images, SceneImages)
    examples = list(examples)
    maps = []
    for start in range(0, len(examples), BATCH):
        pixels = torch.stack([data.transform()(images.pixels(e)) for e in examples[start : start + BATCH]])
        maps.append(attention_maps(method, normalise(pixels, data.mean, data.std)))
    return torch.cat(maps), torch.stack([images.mask(example) for example in examples])


def mean_overlap(method: Method, data: ImageData) -> tuple[float, float]:
    """Mean share of the attention that falls on the object over the whole test split, and that of uniform attention."""
    maps, masks = scene_maps(method, data, range(len(data.table.splits["test"].labels)))
    return float(overlap(maps, masks).mean()), float(chance(masks).mean())

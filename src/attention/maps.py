"""Where the class token looks, and how much of that falls on the object."""

import torch
from torch import Tensor
from torch.nn import functional


def class_token_map(attention: Tensor, grid: tuple[int, int], prefix_tokens: int = 1, prompts: int = 0) -> Tensor:
    """The class token's attention to the patches, averaged over the heads: (B, gh, gw), sum 1 an image.

    `attention` (B, heads, N, N), rows of softmax; tokens stand in the order class token and other prefix tokens,
    prompts (VPT), patches row by row. What goes to prefix tokens and prompts is left out before renormalising; an
    image whose class token looks at no patch at all gets zeros. Raises `ValueError` where the numbers of tokens do not
    add up. Source: TOAST's visualisation (last block, second pass).
    """
    rows, columns = grid
    tokens = attention.shape[-1]
    if prefix_tokens < 1 or prefix_tokens + prompts + rows * columns != tokens:
        raise ValueError(
            f"attention over {tokens} tokens is not that of {prefix_tokens} prefix tokens with the class token first, "
            f"{prompts} prompts and {rows}x{columns} patches"
        )
    patches = attention[:, :, 0, prefix_tokens + prompts :].float().mean(dim=1)
    total = patches.sum(dim=1, keepdim=True).clamp_min(torch.finfo(patches.dtype).tiny)
    return (patches / total).reshape(-1, rows, columns)


def overlap(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of each map's attention that lies on the object's mask: (B,), 0 to 1.

    `maps` (B, gh, gw), sum 1 an image; `masks` (B, H, W) bool, H and W multiples of gh and gw. A patch counts by the
    share of its area that the mask covers, so 1 is reached only by attention on patches that are object all over.
    Uniform attention gives `chance(masks)`. Raises `ValueError` where patches do not divide the mask.
    """
    grid = (maps.shape[-2], maps.shape[-1])
    if masks.shape[-2] % grid[0] or masks.shape[-1] % grid[1]:
        raise ValueError(f"masks of {tuple(masks.shape[-2:])} pixels do not divide into {grid} patches")
    covered = functional.adaptive_avg_pool2d(masks.to(maps.dtype), grid)
    return (maps * covered).sum(dim=(1, 2))


def chance(masks: Tensor) -> Tensor:
    """The overlap of uniform attention, which is each mask's share of the image: `masks` (B, H, W) bool to (B,)."""
    return masks.float().mean(dim=(1, 2))

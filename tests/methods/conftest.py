"""A small backbone that looks like the large ones."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer


@pytest.fixture
def backbone() -> VisionTransformer:
    return make_backbone()


def make_backbone(**options: object) -> VisionTransformer:
    """Depth 6, width 24, every weight drawn so that nothing hides behind a zero or a one."""
    settings = {
        "img_size": 16,
        "patch_size": 4,
        "embed_dim": 24,
        "depth": 6,
        "num_heads": 3,
        "num_classes": 0,
    } | options
    model = VisionTransformer(**settings)  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=random))
    return model.eval()

"""A tiny backbone and its weights in the layouts of other people's files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

ARCHITECTURE = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def weights() -> dict[str, Tensor]:
    """Weights of the tiny model, none of them at a value that an initialisation would give."""
    return random_weights()


def random_weights(**changes: Any) -> dict[str, Tensor]:
    model = VisionTransformer(**{**ARCHITECTURE, "num_classes": 0, **changes})
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in model.state_dict().items()}


def hub_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as the hub's transformers would save them."""
    hub = {
        "embeddings.position_embeddings": weights["pos_embed"],
        "embeddings.cls_token": weights["cls_token"],
    }
    for kind in ("weight", "bias"):
        hub[f"embeddings.patch_embeddings.projection.{kind}"] = weights[f"patch_embed.proj.{kind}"]
        hub[f"layernorm.{kind}"] = weights[f"norm.{kind}"]
        for block in (0, 1):
            theirs, ours = f"encoder.layer.{block}", f"blocks.{block}"
            three = weights[f"{ours}.attn.qkv.{kind}"].chunk(3)
            for projection, tensor in zip(("query", "key", "value"), three, strict=True):
                hub[f"{theirs}.attention.attention.{projection}.{kind}"] = tensor.clone()
            hub[f"{theirs}.attention.output.dense.{kind}"] = weights[f"{ours}.attn.proj.{kind}"]
            hub[f"{theirs}.layernorm_before.{kind}"] = weights[f"{ours}.norm1.{kind}"]
            hub[f"{theirs}.layernorm_after.{kind}"] = weights[f"{ours}.norm2.{kind}"]
            hub[f"{theirs}.intermediate.dense.{kind}"] = weights[f"{ours}.mlp.fc1.{kind}"]
            hub[f"{theirs}.output.dense.{kind}"] = weights[f"{ours}.mlp.fc2.{kind}"]
    return hub


def jax_arrays(weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """The same weights as Google's JAX code saves them."""
    heads, width = 2, weights["cls_token"].shape[-1]
    arrays = {
        "cls": weights["cls_token"],
        "embedding/kernel": weights["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": weights["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": weights["pos_embed"],
        "Transformer/encoder_norm/scale": weights["norm.weight"],
        "Transformer/encoder_norm/bias": weights["norm.bias"],
    }
    for block in (0, 1):
        theirs, ours = f"Transformer/encoderblock_{block}", f"blocks.{block}"
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        kernels, biases = weights[f"{ours}.attn.qkv.weight"].chunk(3), weights[f"{ours}.attn.qkv.bias"].chunk(3)
        for name, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True):
            arrays[f"{attention}/{name}/kernel"] = kernel.T.reshape(width, heads, -1)
            arrays[f"{attention}/{name}/bias"] = bias.reshape(heads, -1)
        arrays[f"{attention}/out/kernel"] = weights[f"{ours}.attn.proj.weight"].T.reshape(heads, -1, width)
        arrays[f"{attention}/out/bias"] = weights[f"{ours}.attn.proj.bias"]
        for norm, number in (("norm1", 0), ("norm2", 2)):
            arrays[f"{theirs}/LayerNorm_{number}/scale"] = weights[f"{ours}.{norm}.weight"]
            arrays[f"{theirs}/LayerNorm_{number}/bias"] = weights[f"{ours}.{norm}.bias"]
        for number in (0, 1):
            arrays[f"{theirs}/MlpBlock_3/Dense_{number}/kernel"] = weights[f"{ours}.mlp.fc{number + 1}.weight"].T
            arrays[f"{theirs}/MlpBlock_3/Dense_{number}/bias"] = weights[f"{ours}.mlp.fc{number + 1}.bias"]
    return {name: tensor.numpy() for name, tensor in arrays.items()}


def torch_file(path: Path, content: object) -> str:
    torch.save(content, path)
    return str(path)

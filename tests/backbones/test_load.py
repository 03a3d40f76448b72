"""Loading: each layout gives the same backbone, and whatever does not fit is refused."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from src.backbones import Backbone, load, tensors_sha256
from src.records.errors import UserError
from tests.backbones.conftest import ARCHITECTURE, hub_names, jax_arrays, random_weights, torch_file


def load_file(file: Path | str, **arguments: Any) -> Backbone:
    return load("tiny", source="file", file=str(file), **{"architecture": ARCHITECTURE, **arguments})


def same(backbone: Backbone, weights: dict[str, Tensor]) -> bool:
    own = backbone.model.state_dict()
    return own.keys() == weights.keys() and all(torch.equal(own[name], weights[name]) for name in own)


def test_every_layout_gives_the_same_backbone(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    save_file(weights, tmp_path / "timm.safetensors")
    save_file(hub_names(weights), tmp_path / "hub.safetensors")
    np.savez(tmp_path / "jax.npz", **jax_arrays(weights))
    np.savez(tmp_path / "optimised.npz", **{f"opt/target/{key}": value for key, value in jax_arrays(weights).items()})
    wrapped = {f"module.backbone.{key}": value for key, value in weights.items()}
    classifier = {f"vit.{key}": value for key, value in hub_names(weights).items()} | {"classifier.bias": torch.ones(9)}
    files = [
        tmp_path / "timm.safetensors",
        tmp_path / "hub.safetensors",
        tmp_path / "jax.npz",
        tmp_path / "optimised.npz",
        torch_file(tmp_path / "flat.pth", weights),
        torch_file(tmp_path / "student.pth", {"student": wrapped | {"module.head.mlp.0.weight": torch.ones(3, 16)}}),
        torch_file(tmp_path / "tuned.pth", {"model_state_dict": {f"enc.{key}": w for key, w in weights.items()}}),
        torch_file(tmp_path / "classifier.bin", classifier),
    ]
    backbones = [load_file(file) for file in files]
    assert all(same(backbone, weights) for backbone in backbones)
    assert {backbone.sha256 for backbone in backbones} == {tensors_sha256(weights)}
    assert len({backbone.file_sha256 for backbone in backbones}) == len(files)
    assert [backbone.part for backbone in backbones][-3:] == ["student", "model_state_dict", None]


def test_the_backbone_is_frozen_and_computes_what_timm_computes(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    backbone = load_file(torch_file(tmp_path / "w.pth", hub_names(weights)))
    model = VisionTransformer(**ARCHITECTURE, num_classes=0).eval()
    model.load_state_dict(weights)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(backbone.model(images), model(images))
    assert not backbone.model.training and not any(p.requires_grad for p in backbone.model.parameters())
    assert (backbone.name, backbone.source, backbone.image_size) == ("tiny", "file", (32, 32))


def test_heads_and_top_down_parts_are_dropped_with_one_line(
    tmp_path: Path, weights: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    foreign = {f"{name}.weight": torch.ones(5, 16) for name in ("head", "fc", "pre_logits.fc", "pooler.dense")}
    foreign |= {"decoders.0.linear.weight": torch.ones(16, 16), "prompt": torch.ones(16)}
    file = torch_file(tmp_path / "w.pth", {"model": weights | foreign | {"top_down_transform": torch.eye(16)}})
    with caplog.at_level(logging.INFO):
        backbone = load_file(file)
    assert len(caplog.messages) == 1 and "7 (head.weight, fc.weight, " in caplog.messages[0]
    assert backbone.sha256 == tensors_sha256(weights)


def test_what_does_not_fit_is_one_sentence(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    def refused(changed: dict[str, Tensor], sentence: str) -> None:
        with pytest.raises(UserError, match=sentence) as caught:
            load_file(torch_file(tmp_path / "w.pth", changed))
        assert "w.pth" in str(caught.value) and "\n" not in str(caught.value)

    without = {key: value for key, value in weights.items() if not key.startswith("blocks.1.")}
    refused(without, r"missing 12 \(blocks.1.attn.proj.bias, .*, \.\.\.\)$")
    refused(weights | {"mask_token": torch.ones(1, 16)}, r"unexpected 1 \(mask_token\)")
    refused(weights | {"prompt": torch.ones(16)}, r"unexpected 1 \(prompt\)")
    refused(weights | {"norm.bias": torch.ones(17)}, r"misshapen 1 \(norm.bias \(17,\) instead of \(16,\)\)")
    refused(weights | {"norm.bias": torch.ones(16, dtype=torch.int8)}, r"not floating point 1 \(norm.bias\)")
    refused(weights | {"norm.bias": torch.full((16,), float("nan"))}, r"not finite in 1 \(norm.bias\)")
    refused(weights | {"norm.bias": torch.full((16,), 1e300, dtype=torch.float64)}, r"not finite in 1 \(norm.bias\)")
    refused(
        {f"enc.{key}": value for key, value in weights.items()} | {"norm.bias": torch.ones(16)}, "1 .norm.bias. outside"
    )
    both = {f"{side}.{key}": value for key, value in weights.items() for side in ("base", "momentum")}
    refused(both, "several backbones, under 'base.' and 'momentum.'")
    no_query = {key: value for key, value in hub_names(weights).items() if "0.attention.attention.query" not in key}
    refused(no_query, r"missing 2 \(blocks.0.attn.qkv.bias.*unexpected 4")


def test_a_npz_file_fills_everything_or_is_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    arrays, file = jax_arrays(weights), tmp_path / "w.npz"

    def refused(changed: dict[str, np.ndarray], sentence: str) -> None:
        np.savez(file, **changed)
        with pytest.raises(UserError, match=sentence):
            load_file(file)

    head = {"head/kernel": np.ones((16, 5), np.float32), "pre_logits/bias": np.ones(16, np.float32)}
    np.savez(file, **arrays, **head)
    assert load_file(file).sha256 == tensors_sha256(weights)
    bias = "Transformer/encoder_norm/bias"
    refused({key: value for key, value in arrays.items() if key != bias}, "lacks an array")
    # timm's loader would broadcast the first and never look at the second.
    refused(arrays | {bias: np.ones(1, np.float32)}, "values and the backbone takes")
    refused(arrays | {"Transformer/encoderblock_2/LayerNorm_0/bias": arrays[bias]}, "values and the backbone takes")
    refused(arrays | {bias: np.full(16, np.nan, np.float32)}, "not finite in 1")
    refused(arrays | {"embedding/kernel": np.ones((4, 4, 3, 16), np.float32)}, "values and the backbone takes")
    refused({"w": arrays[bias]}, "not in Google's JAX layout")


def test_half_precision_files_become_float32(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    half = {key: value.bfloat16() for key, value in weights.items()}
    backbone = load_file(torch_file(tmp_path / "w.pth", half))
    assert same(backbone, {key: value.float() for key, value in half.items()})
    assert backbone.sha256 == tensors_sha256({key: value.float() for key, value in half.items()})


def test_positions_are_resized_by_grid_and_the_checksum_stays(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    file = torch_file(tmp_path / "w.pth", weights)
    own, wide, small = load_file(file), load_file(file, image_size=[16, 64]), load_file(file, image_size=16)
    assert own.sha256 == wide.sha256 == small.sha256
    assert (wide.image_size, small.image_size) == ((16, 64), (16, 16))
    assert wide.model.pos_embed.shape == own.model.pos_embed.shape  # 2 x 8 has as many patches as 4 x 4
    grid = weights["pos_embed"][:, 1:].reshape(1, 4, 4, 16).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, (2, 8), mode="bicubic", antialias=True)
    assert torch.allclose(wide.model.pos_embed[:, 1:], grid.permute(0, 2, 3, 1).reshape(1, 16, 16), atol=1e-6)
    assert torch.equal(wide.model.pos_embed[:, :1], weights["pos_embed"][:, :1])
    assert not wide.model.pos_embed.requires_grad
    assert wide.model(torch.zeros(1, 3, 16, 64)).shape == (1, 16)


def test_the_grid_is_that_of_the_file(tmp_path: Path) -> None:
    larger = random_weights(img_size=48)
    np.savez(tmp_path / "w.npz", **jax_arrays(larger))
    for file in (torch_file(tmp_path / "w.pth", larger), tmp_path / "w.npz"):
        backbone = load_file(file)
        assert backbone.image_size == (48, 48) and same(backbone, larger)
        assert load_file(file, image_size=32).sha256 == backbone.sha256
    native = {**ARCHITECTURE, "img_size": [16, 32]}
    odd = torch_file(tmp_path / "odd.pth", random_weights(img_size=(16, 32)))
    assert load_file(odd, architecture=native).image_size == (16, 32)
    with pytest.raises(UserError, match="9 tokens, which is no square"):
        load_file(odd)


@pytest.mark.parametrize("size", [30, [32, 30], 0, [32], 32.0, True, "32"])
def test_impossible_image_sizes(size: Any) -> None:
    with pytest.raises(UserError, match=r"image.size"):
        load("tiny", source="random", architecture=ARCHITECTURE, image_size=size)


def test_random_weights_are_the_seed_s_and_leave_the_global_state_alone() -> None:
    def draw(seed: int, **arguments: Any) -> Backbone:
        return load("tiny", source="random", architecture=ARCHITECTURE, seed=seed, **arguments)

    before = torch.get_rng_state()
    first = draw(0)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5)
    assert draw(0, image_size=64).sha256 == first.sha256 != draw(1).sha256
    assert (first.source, first.file_sha256) == ("random", None)


def test_loading_a_file_leaves_the_global_state_alone(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    before = torch.get_rng_state()
    load_file(torch_file(tmp_path / "w.pth", weights))
    assert torch.equal(before, torch.get_rng_state())


def test_an_embedded_file_describes_itself(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    file = tmp_path / "w.safetensors"
    described = {"architecture": json.dumps(ARCHITECTURE), "mean": "[0.1, 0.2, 0.3]", "std": "[1, 1, 1]"}
    save_file(weights, file, described)
    backbone = load("digits", source="embedded", file=str(file))
    assert same(backbone, weights)
    assert (backbone.name, backbone.source) == ("digits", "embedded")
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    for metadata, sentence in (
        (None, "no architecture in its metadata"),
        ({"architecture": "{"}, "not JSON"),
        ({**described, "mean": "[1]"}, "'mean' in its metadata that is not a list of three numbers"),
    ):
        save_file(weights, file, metadata)
        with pytest.raises(UserError, match=sentence):
            load("digits", source="embedded", file=str(file))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"source": "web"}, "choose one of timm, file, random, embedded"),
        ({"source": "file"}, "give file="),
        ({"source": "random", "file": "w.pth"}, "reads no file"),
        ({"source": "timm"}, "with your own architecture"),
        ({"source": "random", "architecture": {"dept": 2}}, "unknown argument 'dept': did you mean depth"),
        ({"source": "random", "architecture": {**ARCHITECTURE, "drop_path_rate": 0.1}}, "sets drop_path_rate"),
        ({"source": "random", "architecture": {**ARCHITECTURE, "num_heads": 3}}, "does not build"),
    ],
)
def test_arguments_that_do_not_go_together(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load("tiny", **{"architecture": ARCHITECTURE, **arguments})

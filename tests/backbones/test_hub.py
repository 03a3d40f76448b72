"""timm's weights: names, the hub's cache, the user's folder, and no network where none is needed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from src.backbones import hub, load, local_file
from src.records.errors import UserError

NAME = "test_vit.r160_in1k"
"""A timm model of a third of a million parameters, made for tests."""


class Network:
    """Stands in for the hub's client and counts what is asked of it."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, *_: Any, **__: Any) -> None:
        self.asked += 1
        raise OSError("no network in tests")


@pytest.fixture(autouse=True)
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "get_hf_file_metadata", network)
    monkeypatch.setattr(hub, "hf_hub_download", network)
    monkeypatch.setattr(hub, "_failures", {})
    return network


@pytest.fixture(scope="module")
def drawn() -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in load(NAME, source="random", seed=5).model.state_dict().items()}


def cached(tmp_path: Path, file: str) -> Path:
    """The place of a file in the hub's cache, laid out by hand as the hub's client does."""
    repository = tmp_path / "cache" / f"models--timm--{NAME}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True, exist_ok=True)
    return repository / "snapshots" / "abc" / file


def test_a_cached_file_is_used_without_network(
    tmp_path: Path, network: Network, drawn: dict[str, torch.Tensor]
) -> None:
    head = {"head.weight": torch.ones(1000, 64), "head.bias": torch.ones(1000)}
    torch.save(drawn | head, cached(tmp_path, "pytorch_model.bin"))
    from_bin = load(NAME)
    save_file(drawn | head, cached(tmp_path, "model.safetensors"))
    backbone = load("test_vit", image_size=96)  # without its tag
    assert network.asked == 0
    assert (backbone.name, backbone.source, backbone.image_size) == (NAME, "timm", (96, 96))
    assert backbone.sha256 == from_bin.sha256 == load(NAME, source="random", seed=5).sha256
    assert (backbone.mean, backbone.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert local_file(NAME, None) == cached(tmp_path, "model.safetensors")


def test_the_cache_comes_before_the_folder(tmp_path: Path, network: Network, drawn: dict[str, torch.Tensor]) -> None:
    assert local_file(NAME, tmp_path) is None
    torch.save(drawn, tmp_path / f"{NAME}.pth")
    assert local_file(NAME, tmp_path) == tmp_path / f"{NAME}.pth"
    assert load(NAME, folder=str(tmp_path)).source == "timm"
    save_file(drawn, cached(tmp_path, "model.safetensors"))
    assert local_file("test_vit", tmp_path) == cached(tmp_path, "model.safetensors")
    assert network.asked == 0


def test_missing_weights_say_what_to_put_where_and_are_looked_up_once(tmp_path: Path, network: Network) -> None:
    sentence = f"fetch model.safetensors of hub id timm/{NAME} elsewhere and put it at {tmp_path}/{NAME}.safetensors"
    for _ in range(28):
        with pytest.raises(UserError, match=sentence) as caught:
            load(NAME, folder=str(tmp_path))
        assert "no network in tests" in str(caught.value)
    assert network.asked == 1


def test_timm_weights_must_have_timms_own_grid(tmp_path: Path, drawn: dict[str, torch.Tensor]) -> None:
    smaller = {key: value[:, :26] if key == "pos_embed" else value for key, value in drawn.items()}
    save_file({key: value.contiguous() for key, value in smaller.items()}, tmp_path / f"{NAME}.safetensors")
    with pytest.raises(UserError, match=r"misshapen 1 .pos_embed"):
        load(NAME, folder=str(tmp_path))
    assert load(NAME, source="file", file=str(tmp_path / f"{NAME}.safetensors")).image_size == (80, 80)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("vit_base_patch16_224_in21k", "'vit_base_patch16_224.augreg_in21k', or 'vit_base_patch16_224.orig_in21k'"),
        ("vit_large_patch16_224_in21k", "'vit_large_patch16_224.augreg_in21k', or 'vit_large_patch16_224.orig_in21k'"),
        ("vit_base_patch16_244.orig_in21k", "nearest names are .*vit_base_patch16_224.orig_in21k"),
        ("deit_base_patch16_224.fb_in21k", "nearest names are deit_base_patch16_224.fb_in1k"),
        ("deit_base_distilled_patch16_224", "VisionTransformerDistilled and not a VisionTransformer"),
        ("vit_base_r50_s16_224.orig_in21k", "convolutional stem"),
        ("resnet18", "ResNet and not a VisionTransformer"),
        ("", "no backbone ''"),
    ],
)
def test_names_that_are_refused(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    with pytest.raises(UserError, match=sentence):
        load(name, source="random")


@pytest.mark.parametrize("name", ["deit_base_patch16_224.fb_in1k", "vit_base_patch16_224.orig_in21k"])
def test_the_papers_names_are_known(name: str) -> None:
    assert local_file(name, None) is None

"""method.init: a pre-tuned module under the authors' key names, strictly."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from src.methods import Toast
from src.records import UserError
from src.training.run import run
from tests.methods.conftest import make_backbone
from tests.tiny import tiny


def module_of(depth: int, width: int) -> dict[str, Tensor]:
    """A pre-tuned module's tensors as the authors name them."""
    random = torch.Generator().manual_seed(3)
    tensors = {
        "prompt": torch.randn(width, generator=random),
        "top_down_transform": torch.randn(width, width, generator=random),
    }
    for block in range(depth):
        for name in ("linear", "linear2"):
            tensors[f"decoders.{block}.{name}.weight"] = torch.randn(width, width, generator=random)
    return tensors


def saved(path: Path, tensors: dict[str, Tensor]) -> str:
    save_file(tensors, path)
    return str(path)


@pytest.mark.parametrize("first_block", [0, 4])
@pytest.mark.parametrize("prefix", ["", "enc."])
def test_every_tensor_comes_from_the_file(tmp_path: Path, first_block: int, prefix: str) -> None:
    tensors = module_of(6, 24)
    backbone = {"blocks.0.norm1.weight": torch.ones(24), "head.weight": torch.ones(9, 24)}
    path = saved(tmp_path / "a.safetensors", {prefix + name: value for name, value in (tensors | backbone).items()})
    method = Toast(make_backbone(), 4, first_block=first_block, init=path)
    assert torch.equal(method.task_embedding, tensors["prompt"])
    assert torch.equal(method.channel_transform, tensors["top_down_transform"])
    state = dict(method.named_parameters())
    for block in range(first_block, 6):
        assert torch.equal(state[f"feedback.{block}.chain.weight"], tensors[f"decoders.{block}.linear.weight"])
        assert torch.equal(state[f"feedback.{block}.signal.weight"], tensors[f"decoders.{block}.linear2.weight"])


def test_a_missing_transform_is_the_identity(tmp_path: Path) -> None:
    tensors = module_of(6, 24)
    del tensors["top_down_transform"]
    torch.save({"model": tensors, "epoch": 3}, tmp_path / "a.pth")
    method = Toast(make_backbone(), 4, init=str(tmp_path / "a.pth"))
    assert torch.equal(method.channel_transform, torch.eye(24))
    assert torch.equal(method.task_embedding, tensors["prompt"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompt": None}, "missing prompt"),
        ({"decoders.5.linear2.weight": None}, r"missing decoders\.5\.linear2\.weight"),
        ({"decoders.0.linear3.weight": torch.ones(1)}, r"unknown decoders\.0\.linear3\.weight"),
        ({"prompt": torch.ones(25)}, "another width"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, change: dict[str, Tensor | None], sentence: str) -> None:
    tensors = {name: value for name, value in (module_of(6, 24) | change).items() if value is not None}
    with pytest.raises(ValueError, match=sentence):
        Toast(make_backbone(), 4, init=saved(tmp_path / "a.safetensors", tensors))


def test_the_record_names_the_module_and_its_name_follows_its_content(tmp_path: Path) -> None:
    one = run(tiny(tmp_path, "trainer.max_epochs=1"))
    path = saved(tmp_path / "a, [b].safetensors", module_of(3, 24))
    other = run(tiny(tmp_path, "trainer.max_epochs=1", f"method.init={path}", method="toast_lite"))
    assert other.init["source"] == path
    assert "not pre-tuned" in one.marks
    assert "not pre-tuned" not in other.marks
    moved = saved(tmp_path / "b.safetensors", module_of(3, 24))
    assert run(tiny(tmp_path, "trainer.max_epochs=1", f"method.init={moved}", method="toast_lite")).name == other.name
    with pytest.raises(UserError, match="does not exist"):
        run(tiny(tmp_path, f"method.init={tmp_path}/nothing.safetensors"))

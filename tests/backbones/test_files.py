"""Files: what is read from which container, and that nothing in them is ever run."""

import argparse
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from src.backbones import read_tensors
from src.records.errors import UserError
from tests.backbones.conftest import torch_file

A, B = torch.zeros(2), torch.ones(2)


@pytest.mark.parametrize(
    ("content", "part", "used", "value"),
    [
        ({"w": A}, None, None, A),
        ({"w": A, "epoch": 3, "extra": {"w": B}}, None, None, A),
        ({"model": {"w": A}, "epoch": torch.tensor(3), "args": argparse.Namespace(lr=0.1)}, None, "model", A),
        ({"model_ema": {"w": B}, "model": {"w": A}}, None, "model", A),
        ({"model_ema": {"w": B}, "model": {"w": A}}, "model_ema", "model_ema", B),
        ({"student": {"w": B}, "teacher": {"w": A}, "optimizer": {"state": {0: {"s": B}}}}, None, "teacher", A),
        ({"student": {"w": B}, "teacher": {"w": A}}, "student", "student", B),
        ({"state_dict": {"w": A}}, None, "state_dict", A),
        ({"model_state_dict": {"w": A}, "epoch": 1}, None, "model_state_dict", A),
        ({"only": {"w": A}, "epoch": 1}, None, "only", A),
    ],
)
def test_the_part_that_is_read(
    tmp_path: Path, content: object, part: str | None, used: str | None, value: Tensor
) -> None:
    tensors, found = read_tensors(torch_file(tmp_path / "w.pth", content), part)
    assert found == used
    assert list(tensors) == ["w"] and torch.equal(tensors["w"], value)


def test_parts_that_cannot_be_chosen_are_listed(tmp_path: Path) -> None:
    file = torch_file(tmp_path / "w.pth", {"one": {"w": A}, "two": {"w": B}})
    with pytest.raises(UserError, match="several parts: give part=, one of one, two"):
        read_tensors(file)
    with pytest.raises(UserError, match=r"no part 'three'.*one, two"):
        read_tensors(file, "three")
    with pytest.raises(UserError, match="holds no tensors"):
        read_tensors(torch_file(tmp_path / "n.pth", {"epoch": 3}))
    save_file({"w": A}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="leave part out"):
        read_tensors(tmp_path / "w.safetensors", "model")


def test_dtypes_and_values_are_those_of_the_file(tmp_path: Path) -> None:
    save_file({"h": torch.full((2,), 0.1, dtype=torch.bfloat16)}, tmp_path / "w.safetensors")
    np.savez(tmp_path / "w.npz", h=np.full(2, 0.1, np.float16))
    assert read_tensors(tmp_path / "w.safetensors")[0]["h"].dtype == torch.bfloat16
    assert read_tensors(tmp_path / "w.npz")[0]["h"].dtype == torch.float16


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt"])
@pytest.mark.parametrize("plain", [False, True])
def test_a_hostile_pickle_is_never_run(tmp_path: Path, suffix: str, plain: bool) -> None:
    witness, file = tmp_path / "witness", tmp_path / f"w{suffix}"
    content = {"model": {"w": A}, "args": Hostile(f"touch {witness}")}
    if plain:
        file.write_bytes(pickle.dumps(content["args"]))
    else:
        torch.save(content, file)
    with pytest.raises(UserError, match=r"w\.\w+ "):
        read_tensors(file)
    assert not witness.exists()
    pickle.loads(pickle.dumps(content["args"]))
    assert witness.exists(), "the trap itself does not work"


def test_a_hostile_pickle_is_refused_by_name_and_in_npz(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with pytest.raises(UserError, match=r"asks for 'posix.system'"):
        read_tensors(torch_file(tmp_path / "w.pth", {"w": Hostile(f"touch {witness}")}))
    np.savez(tmp_path / "w.npz", w=np.array([Hostile(f"touch {witness}")], dtype=object))
    with pytest.raises(UserError, match=r"not a whole .npz file of plain arrays"):
        read_tensors(tmp_path / "w.npz")
    assert not witness.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
def test_files_that_are_no_weights(tmp_path: Path, suffix: str) -> None:
    good, file = tmp_path / f"good{suffix}", tmp_path / f"w{suffix}"
    tensor = torch.randn(1000)
    if suffix == ".safetensors":
        save_file({"w": tensor}, good)
    elif suffix == ".pth":
        torch.save({"w": tensor}, good)
    else:
        np.savez(good, w=tensor.numpy())
    for content, sentence in (
        (good.read_bytes()[:2000], "not a whole"),
        (os.urandom(500), "not a whole"),
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
    ):
        file.write_bytes(content)
        with pytest.raises(UserError, match=sentence) as caught:
            read_tensors(file)
        assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_words_are_no_weights(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", w=np.array(["one", "two"]))
    with pytest.raises(UserError, match="holds 'w', which is no array of numbers"):
        read_tensors(tmp_path / "w.npz")


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "w.txt").write_text("weights")
    for path, sentence in (
        (tmp_path, "is a folder"),
        (tmp_path / "none.pth", "does not exist"),
        (tmp_path / "pipe.pth", "neither a file nor a link"),
        (tmp_path / "w.txt", "ends in one of .safetensors"),
    ):
        with pytest.raises(UserError, match=sentence):
            read_tensors(path)


def test_an_unreadable_file_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "w.pth").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, whom no mode stops
    with pytest.raises(UserError, match=r"w.pth cannot be read .Permission denied."):
        read_tensors(tmp_path / "w.pth")

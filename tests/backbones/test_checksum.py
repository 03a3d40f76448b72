"""Checksums: of tensors and not of files, pinned."""

import os
from pathlib import Path

import torch

from src.backbones import tensors_sha256
from src.backbones.checksum import file_sha256


def test_the_checksum_is_pinned_and_does_not_depend_on_order_or_memory() -> None:
    a, b = torch.arange(6, dtype=torch.float32).reshape(2, 3), torch.tensor(1.5, dtype=torch.bfloat16)
    pinned = "6eabb62e254eeb2371151a0c96fc55d74ee24072d4c6e8dce70d5c18450e4395"
    assert tensors_sha256({"a": a, "b": b}) == pinned
    assert tensors_sha256({"b": b, "a": a.T.contiguous().T}) == pinned


def test_the_checksum_tells_names_dtypes_shapes_and_values_apart() -> None:
    a = torch.zeros(2, 3)
    others = [{"b": a}, {"a": a.int()}, {"a": a.T}, {"a": a + 1}, {"a": -a}, {"a": a, "b": a}, {}]
    assert len({tensors_sha256(tensors) for tensors in [{"a": a}, *others]}) == 1 + len(others)


def test_a_changed_file_has_another_checksum(tmp_path: Path) -> None:
    file = tmp_path / "w"
    file.write_bytes(b"abc")
    assert file_sha256(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    file.write_bytes(b"abd")
    os.utime(file, ns=(1, 1))
    assert file_sha256(file) != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

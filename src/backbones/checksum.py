"""Checksums that say which weights were used, and which file they came in."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_file_hashes: dict[tuple[str, int, int], str] = {}


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 over the sorted (name, dtype, shape, bytes) of the tensors, so independent of file format and order.

    Each tensor enters as the line `name dtype shape` (`pos_embed float32 1,17,16`) followed by its bytes in row-major
    order. Source: the `backbone` row of result.json in the design.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name} {dtype} {','.join(map(str, tensor.shape))}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, read as a stream, once a process for each (path, size, time of change)."""
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _file_hashes:
        with path.open("rb") as stream:
            _file_hashes[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _file_hashes[key]

"""Reading tensors out of a stranger's file without ever running code from it."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from src.records.errors import UserError

PICKLED = (".pth", ".pt", ".bin", ".ckpt")
PARTS = ("model", "state_dict", "model_state_dict", "teacher", "model_ema", "ema", "student", "module", "net")
"""Which part of a container is read unless the user names one: the first of these that is there.

So `model` comes before its moving average `model_ema`, and DINO's `teacher`, which its authors evaluate, before
`student`.
"""


def read_tensors(path: str | Path, part: str | None = None) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of a file under their names and in their dtypes there, and which part of a container they are.

    `.safetensors`, `.npz` (no pickled objects) and, through torch's `weights_only` unpickler, `.pth .pt .bin .ckpt`.
    Part None in the result means that the file itself is the dictionary; without `part` that is tried first, then the
    names in `PARTS`. Raises UserError for a file that is missing, torn, unreadable or of another kind, and for a part
    that it does not hold.
    """
    path = Path(path).expanduser()
    _check_readable(path)
    if path.suffix in PICKLED:
        return _choose_part(_unpickle(path), part, path)
    if path.suffix not in (".safetensors", ".npz"):
        kinds = ", ".join((".safetensors", ".npz", *PICKLED))
        raise UserError(f"{path} cannot be read: the name of a file of weights ends in one of {kinds}")
    if part is not None:
        raise UserError(f"{path} has no part '{part}': a {path.suffix} file is not divided, leave part out")
    return (_read_npz(path) if path.suffix == ".npz" else _read_safetensors(path)), None


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty for other kinds of files. Raises UserError as `read_tensors` does."""
    if path.suffix != ".safetensors":
        return {}
    _check_readable(path)
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise _torn(path, "safetensors file", error) from error


def _check_readable(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the file of weights in it")
    # Opening a pipe would wait for a writer, and a device may never end.
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is neither a file nor a link to one: give a file of weights")
    try:
        with path.open("rb") as stream:
            start = stream.read(200)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: check the path of the weights") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check its permissions and its disk") from error
    if not start:
        raise UserError(f"{path} is empty: fetch the weights again")
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is only Git LFS's pointer to the weights: run 'git lfs pull' where it was cloned")
    if re.match(rb"\s*<(!doctype|html|\?xml)", start, re.IGNORECASE):
        raise UserError(f"{path} is a web page and not weights: fetch the file that the page offers")


def _torn(path: Path, kind: str, error: Exception) -> UserError:
    reason = str(error).strip().split("\n")[0].rstrip(".")[:200] or type(error).__name__
    return UserError(f"{path} is not a whole {kind} ({reason}): fetch it again")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _torn(path, "safetensors file", error) from error


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        # Opened here, as numpy leaves a broken file open.
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # numpy, zipfile and zlib raise of every kind on foreign bytes
        raise _torn(path, ".npz file of plain arrays", error) from error
    text = [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]
    if text:
        raise UserError(f"{path} holds '{text[0]}', which is no array of numbers: give a file of weights")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _unpickle(path: Path) -> object:
    try:
        # Authors often save their command line beside the weights; a Namespace only holds values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler on foreign bytes raises of every kind
        found = re.search(r"unsupported (?:global: )?GLOBAL (\S+)", str(error), re.IGNORECASE)
        if found:
            raise UserError(
                f"{path} asks for '{found[1]}' to be run or built when it is read, which is refused: "
                f"where you trust it, save its tensors alone as safetensors"
            ) from error
        # torch's own text is left out: it advises to read the file with its code running.
        raise UserError(
            f"{path} is not a whole file of torch.save with tensors and plain values: fetch it again"
        ) from error


def _tensors_in(value: object) -> dict[str, Tensor]:
    """The tensors that stand directly in a mapping; scalars, such as a saved step count, make no state dictionary."""
    if not isinstance(value, Mapping):
        return {}
    found = {str(key): item for key, item in value.items() if isinstance(item, Tensor)}
    return found if any(item.ndim for item in found.values()) else {}


def _choose_part(content: Any, part: str | None, path: Path) -> tuple[dict[str, Tensor], str | None]:
    flat = _tensors_in(content)
    if flat and part is None:
        return flat, None
    entries = content.items() if isinstance(content, Mapping) else ()
    parts = {str(key): tensors for key, value in entries if (tensors := _tensors_in(value))}
    if not parts:
        wanted = f"part '{part}'" if part is not None else "tensors"
        raise UserError(f"{path} holds no {wanted}: give a state dictionary or a checkpoint that holds one")
    known = [name for name in PARTS if name in parts] or list(parts)
    if part is None and (len(parts) == 1 or known[0] in PARTS):
        part = known[0]
    if part not in parts:
        problem = "holds several parts" if part is None else f"has no part '{part}'"
        raise UserError(f"{path} {problem}: give part=, one of {', '.join(sorted(parts))}")
    return parts[part], part

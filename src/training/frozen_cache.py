"""What no trained parameter can change, computed once for every run that shares it and mapped from disk after."""

import contextlib
import math
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.backbones import Backbone
from src.data.module import ImageData
from src.data.table import SPLITS
from src.data.transforms import normalise
from src.methods import Method
from src.records import FULL, UserError, config_hash, package_version, process_start
from src.training.module import heads
from src.training.trainer import devices_of

FOLDER = ".cache"
MARK = "frozen cache"
BATCH = 32
PARTIAL = ".partial-"
SILENCE = 3600.0
Arrays = dict[str, NDArray[Any]]


def why_not(config: Mapping[str, Any], data: ImageData, method: Method) -> str | None:
    """Why a run cannot use the cache, or None if it can. Decided by its config alone, not by what is there."""
    precision = str(config["trainer"]["precision"])
    if data.cache_frozen is False:
        return "data.cache_frozen=false"
    if not method.worth_caching or method.train_backbone:
        return f"{config['method']['name']} computes little in its frozen part"
    if getattr(data.transform(), "augments", True):
        return "the images are augmented"
    if method.noise():
        return "drop path makes the frozen part random; method.drop_path=0 allows it"
    if devices_of(config) > 1:
        return "it is for one device"
    if precision not in ("32", "32-true", "64", "64-true"):
        return f"features of trainer.precision={precision} are not kept"
    images = sum(len(data.table.splits[split].labels) for split in ("train", "val"))
    largest = images * bytes_of(features_of(data, method), dtype_of(config))
    if largest > data.cache_gb * 1e9:
        return f"its {largest / 1e9:.1f} GB are more than data.cache_gb={data.cache_gb:g}"
    return None


class Frozen(torch.nn.Module):
    """A method's frozen part as a module of its own."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.method.frozen(images)


def features_of(data: ImageData, method: Method) -> dict[str, tuple[int, ...]]:
    """The shape of each feature of one image, found on the meta device, without computing anything."""
    frozen = Frozen(method)
    state = {name: value.to("meta") for name, value in [*frozen.named_parameters(), *frozen.named_buffers()]}
    image = torch.empty(1, 3, data.image_size, data.image_size, device="meta")
    features: dict[str, Tensor] = torch.func.functional_call(frozen, state, (image,))
    return {name: tuple(value.shape[1:]) for name, value in features.items()}


def dtype_of(config: Mapping[str, Any]) -> torch.dtype:
    """What features are kept in."""
    return torch.float64 if str(config["trainer"]["precision"]).startswith("64") else torch.float32


def bytes_of(features: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> int:
    """Bytes that one image's features take."""
    return sum(math.prod(shape) * dtype.itemsize for shape in features.values())


def fill(
    config: Mapping[str, Any],
    data: ImageData,
    backbone: Backbone,
    method: Method,
    device: torch.device,
    splits: Sequence[str],
) -> None:
    """Give the data module the features of these splits in the place of images, computing what is not there yet.

    The test split only within what `data.cache_gb` leaves. Raises UserError for a full disk.
    """
    folder = Path(config["paths"]["runs"]) / FOLDER
    dtype, shapes = dtype_of(config), features_of(data, method)
    room, size = data.cache_gb * 1e9, bytes_of(shapes, dtype)
    for split in SPLITS:
        count = len(data.table.splits[split].labels)
        if split not in splits or not count or (split == "test" and count * size > room):
            continue
        room -= count * size
        key = config_hash(key_of(config, data, backbone, method, device, split))
        place = folder / key
        features = read(place, count, shapes)
        if features is None:
            make_room(folder, data.cache_gb * 1e9 - count * size)
            with refusing_a_full_disk():
                compute(data, method, device, dtype, split, place, shapes)
            features = read(place, count, shapes)
        if features is None:
            raise UserError(f"the frozen cache {place} went while it was read; start the same command again")
        with contextlib.suppress(OSError):
            os.utime(place)
        data.features[split] = features


def key_of(
    config: Mapping[str, Any], data: ImageData, backbone: Backbone, method: Method, device: torch.device, split: str
) -> dict[str, Any]:
    """Everything that the bits of a split's features depend on."""
    return {
        "backbone": [backbone.sha256, list(backbone.image_size), heads(method)],
        "method": {key: value for key, value in config["method"].items() if key != "init"},
        "images": [data.table.fingerprint, data.preprocessing(), split, len(data.table.splits[split].labels)],
        "computed": [
            str(config["trainer"]["precision"]), bool(config["trainer"].get("tf32")), torch.get_num_threads(),
            torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            [package_version(package) for package in ("torch", "torchvision", "timm", "simplejpeg", "toast-transfer")],
        ],
    }  # fmt: skip


def compute(
    data: ImageData, method: Method, device: torch.device, dtype: torch.dtype, split: str, place: Path,
    shapes: Mapping[str, tuple[int, ...]],
) -> None:  # fmt: skip
    """Write a split's features, an array a feature; they take their name once they are whole.

    By ordinary writes: a mapped file on a full disk would end the process with a bus error.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=place.parent, prefix=f"{PARTIAL}{socket.gethostname()}-{os.getpid()}-"))
    count = len(data.table.splits[split].labels)
    try:
        with contextlib.ExitStack() as stack:
            files: dict[str, BinaryIO] = {}
            for features in batches(data, method, device, dtype, split):
                for name, value in features.items():
                    rows = value.cpu().numpy()
                    if name not in files:
                        files[name] = stack.enter_context((partial / f"{name}.npy").open("wb"))
                        np.lib.format.write_array_header_1_0(files[name], header(rows, count))
                    files[name].write(rows.tobytes())
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        if read(place, count, shapes) is None:
            shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was quicker
            os.rename(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def header(rows: NDArray[Any], count: int) -> dict[str, Any]:
    """What a .npy file of so many rows begins with."""
    return {"descr": rows.dtype.str, "fortran_order": False, "shape": (count, *rows.shape[1:])}


def batches(
    data: ImageData, method: Method, device: torch.device, dtype: torch.dtype, split: str
) -> Iterator[dict[str, Tensor]]:
    """A split's features, batch by batch in the order of its examples."""
    images, transform = data.table.splits[split], data.transform()
    method.to(device, dtype).eval()
    try:
        for first in range(0, len(images.labels), BATCH):
            stop = min(first + BATCH, len(images.labels))
            pixels = torch.stack([transform(images.pixels(example)) for example in range(first, stop)]).to(device)
            yield method.frozen(normalise(pixels, data.mean, data.std).to(dtype))
    finally:
        method.float()  # the precision plugin converts it anew; what was float32 has lost nothing


def read(place: Path, count: int, shapes: Mapping[str, tuple[int, ...]]) -> Arrays | None:
    """The features of a split, mapped; None where they are not there, or not whole."""
    try:
        found = {name: np.load(place / f"{name}.npy", mmap_mode="r") for name in shapes}
    except (OSError, ValueError, EOFError):
        return None
    whole = all(array.shape == (count, *shapes[name]) for name, array in found.items())
    return found if whole else None


def make_room(folder: Path, most: float) -> None:
    """Remove what has not been used for longest, until the cache is no larger than `most` bytes.

    What is being computed counts, and stays while its process is there.
    """
    used, sizes = {}, {}
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):  # another process removes too
            files = [file.stat() for file in path.iterdir()]
            used[path] = max([path.stat().st_mtime, *(file.st_mtime for file in files if is_partial(path))])
            sizes[path] = sum(file.st_size for file in files)
    for path in sorted(sizes, key=lambda path: used[path]):
        if is_abandoned(path, used[path]) or (sum(sizes.values()) > most and not is_partial(path)):
            # Whoever has it mapped goes on reading it.
            shutil.rmtree(path, ignore_errors=True)
            del sizes[path]


def is_partial(path: Path) -> bool:
    """Whether features are not whole yet."""
    return path.name.startswith(PARTIAL)


def is_abandoned(path: Path, written: float) -> bool:
    """Whether features will never be whole: their process is gone, or, on another machine, silent for an hour."""
    host, _, process = path.name.removeprefix(PARTIAL).rpartition("-")[0].rpartition("-")
    if not is_partial(path):
        return False
    if host == socket.gethostname() and process.isdigit():
        return process_start(int(process)) is None
    return time.time() - written > SILENCE


@contextlib.contextmanager
def refusing_a_full_disk() -> Iterator[None]:
    """Turn a full disk into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(
            f"the frozen cache cannot be written ({error.strerror}); free some space, or give data.cache_frozen=false"
        ) from error

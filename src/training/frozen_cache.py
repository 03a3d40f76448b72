"""What no trained parameter can change, computed once for every run that shares it and mapped from disk after."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.backbones import Backbone
from src.data.module import ImageData
from src.data.table import SPLITS
from src.data.transforms import normalise
from src.methods import Method
from src.records import UserError, config_hash
from src.training.module import heads
from src.training.trainer import devices_of

FOLDER = ".cache"
MARK = "frozen cache"
BATCH = 32
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
    largest = len(data.table.splits["train"].labels) * bytes_an_image(data, method)
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


def bytes_an_image(data: ImageData, method: Method) -> int:
    """Bytes that one image's features take, found on the meta device, without computing anything."""
    frozen = Frozen(method)
    state = {name: value.to("meta") for name, value in [*frozen.named_parameters(), *frozen.named_buffers()]}
    image = torch.empty(1, 3, data.image_size, data.image_size, device="meta")
    features: dict[str, Tensor] = torch.func.functional_call(frozen, state, (image,))
    return sum(value.numel() * value.element_size() for value in features.values())


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
    dtype = torch.float64 if str(config["trainer"]["precision"]).startswith("64") else torch.float32
    room, size = data.cache_gb * 1e9, bytes_an_image(data, method) * dtype.itemsize // 4
    for split in SPLITS:
        count = len(data.table.splits[split].labels)
        if split not in splits or not count or (split == "test" and count * size > room):
            continue
        room -= count * size
        key = config_hash(key_of(config, data, backbone, method, device, split))
        place = folder / key
        if not place.is_dir():
            make_room(folder, data.cache_gb * 1e9 - count * size)
            with refusing_a_full_disk():
                compute(data, method, device, dtype, split, place)
        os.utime(place)
        data.features[split] = read(place)


def key_of(
    config: Mapping[str, Any], data: ImageData, backbone: Backbone, method: Method, device: torch.device, split: str
) -> dict[str, Any]:
    """Everything that the bits of a split's features depend on."""
    return {
        "backbone": [backbone.sha256, list(backbone.image_size), heads(method)],
        "method": {key: value for key, value in config["method"].items() if key != "init"},
        "images": [data.table.fingerprint, data.preprocessing(), split, len(data.table.splits[split].labels)],
        "computed": [
            torch.__version__, str(config["trainer"]["precision"]), bool(config["trainer"].get("tf32")),
            torch.get_num_threads(), torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        ],
    }  # fmt: skip


def compute(data: ImageData, method: Method, device: torch.device, dtype: torch.dtype, split: str, place: Path) -> None:
    """Write a split's features, an array a feature; they take their name once they are whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=place.parent, prefix=".partial-"))
    arrays: Arrays = {}
    try:
        for first, features in batches(data, method, device, dtype, split):
            for name, value in features.items():
                rows = value.cpu().numpy()
                if name not in arrays:
                    shape = (len(data.table.splits[split].labels), *rows.shape[1:])
                    arrays[name] = np.lib.format.open_memmap(partial / f"{name}.npy", "w+", rows.dtype, shape)
                arrays[name][first : first + len(rows)] = rows
        for array in arrays.values():
            array.flush()  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):  # another process was quicker
            os.rename(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def batches(
    data: ImageData, method: Method, device: torch.device, dtype: torch.dtype, split: str
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """A split's features in the order of its examples: the first example of each batch, and the batch."""
    images, transform = data.table.splits[split], data.transform()
    method.to(device, dtype).eval()
    for first in range(0, len(images.labels), BATCH):
        stop = min(first + BATCH, len(images.labels))
        pixels = torch.stack([transform(images.pixels(example)) for example in range(first, stop)]).to(device)
        yield first, method.frozen(normalise(pixels, data.mean, data.std).to(dtype))
    method.float()  # the precision plugin converts it anew; what was float32 has lost nothing


def read(place: Path) -> Arrays:
    """The features of a split, mapped."""
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(place.glob("*.npy"))}


def make_room(folder: Path, most: float) -> None:
    """Remove what has not been used for longest, until the cache is no larger than `most` bytes."""
    kept = sorted((path for path in folder.glob("[!.]*") if path.is_dir()), key=lambda path: path.stat().st_mtime)
    sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for path in kept}
    for path in kept:
        if sum(sizes.values()) <= most:
            return
        # Whoever has it mapped goes on reading it.
        shutil.rmtree(path, ignore_errors=True)
        del sizes[path]


@contextlib.contextmanager
def refusing_a_full_disk() -> Iterator[None]:
    """Turn a full disk into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"the frozen cache cannot be written ({error.strerror}); free some space, or give data.cache_frozen=false"
        ) from error

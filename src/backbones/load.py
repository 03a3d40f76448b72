"""One call from what the user asked for to a frozen backbone, strictly loaded, and what the record says of it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from src.backbones import jax
from src.backbones.architecture import Architecture, Channels, find
from src.backbones.checksum import file_sha256, tensors_sha256
from src.backbones.files import read_metadata, read_tensors
from src.backbones.hub import find_or_fetch
from src.backbones.names import listed, to_timm_names
from src.records.errors import UserError

EMBEDDED = Path(__file__).resolve().parents[2] / "assets" / "embedded_vit.safetensors"
SOURCES = ("timm", "file", "random", "embedded")


@dataclass(frozen=True)
class Backbone:
    """A frozen backbone and where it comes from.

    `model` has no head and no drop rates, is in eval mode, and takes images (B, channels, *image_size); image_size is
    (height, width) in pixels. `name` is the timm name with its tag, or the user's with an `architecture`. `sha256` is
    taken over the float32 tensors without head and before position resizing (see `tensors_sha256`), `file_sha256` over
    the file. `mean` and `std`, for pixels in 0 to 1, are what the weights were trained with. `part` is the part of a
    container that was read, None where the file has none.
    """

    model: VisionTransformer
    name: str
    source: str
    sha256: str
    file_sha256: str | None
    image_size: tuple[int, int]
    mean: Channels
    std: Channels
    part: str | None


def load(
    name: str,
    source: str = "timm",
    file: str | None = None,
    part: str | None = None,
    image_size: int | Sequence[int] | None = None,
    architecture: Mapping[str, Any] | None = None,
    folder: str | None = None,
    seed: int = 0,
) -> Backbone:
    """Load a backbone from timm's weights, a file, a file that describes itself (embedded), or draw it from the seed.

    `image_size` in pixels, one number or (height, width), None for that of the weights; other sizes resize the
    position embedding by grid (bicubic, antialiased). `folder` is where timm's weights may lie besides the hub's cache.
    An embedded file is a safetensors file with the JSON of `architecture`, `mean` and `std` in its metadata; the latter
    two count for any safetensors file; without `file` it is the one that comes with the project. Leaves the global
    random state alone. Raises UserError.
    """
    if source == "embedded" and file is None:
        file = str(EMBEDDED)
    _check_source(source, file, part, architecture)
    path = Path(file).expanduser() if file is not None else None
    metadata = read_metadata(path) if path is not None else {}
    if source == "embedded" and architecture is None:
        architecture = _json(metadata, "architecture", path)
        if not isinstance(architecture, dict):
            raise UserError(f"{path} has no architecture in its metadata: give one, or source=file and a timm name")
    found = find(name, architecture)
    used_part = None
    if source == "random":
        # The default generator alone is seeded: torch.manual_seed would touch those of the GPUs too.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)
            model = found.build()
    else:
        with torch.device("meta"):
            found.build()  # what is no plain vision transformer is refused before it is fetched
        path = path if path is not None else find_or_fetch(found.name, folder)
        model, used_part = _load_file(found, path, part, own_grid=source == "timm")
    model.eval().requires_grad_(False)
    sha256 = tensors_sha256(model.state_dict())
    size = _resize(model, image_size, found.name)
    return Backbone(
        model=model,
        name=found.name,
        source=source,
        sha256=sha256,
        file_sha256=file_sha256(path) if path is not None else None,
        image_size=size,
        mean=_channels(metadata, "mean", path) or found.mean,
        std=_channels(metadata, "std", path) or found.std,
        part=used_part,
    )


def _check_source(source: str, file: str | None, part: str | None, architecture: Mapping[str, Any] | None) -> None:
    if source not in SOURCES:
        raise UserError(f"unknown source '{source}' of the backbone: choose one of {', '.join(SOURCES)}")
    reads_file = source in ("file", "embedded")
    if reads_file and file is None:
        raise UserError(f"source={source} of the backbone needs the path of its weights: give file=")
    if not reads_file and (file is not None or part is not None):
        raise UserError(f"source={source} of the backbone reads no file: give source=file, or leave out file and part")
    if source == "timm" and architecture is not None:
        raise UserError(
            "source=timm loads weights by timm name: with your own architecture, give source=file or random"
        )


def _load_file(
    found: Architecture, path: Path, part: str | None, own_grid: bool
) -> tuple[VisionTransformer, str | None]:
    """The model with the file's weights, at the file's grid unless it must be the model's own, and the part read."""
    tensors, used_part = read_tensors(path, part)
    in_jax_layout = path.suffix == ".npz"
    if not in_jax_layout:
        tensors = to_timm_names(tensors, path)
    positions = jax.position_embedding(tensors, path) if in_jax_layout else tensors.get("pos_embed")
    # On the meta device nothing is allocated or drawn: every value is about to come from the file.
    with torch.device("meta"):
        model = found.build()
        size = None if own_grid or positions is None else _size_in_file(model, positions, path)
        model = model if size is None else found.build(size)
    model.to_empty(device="cpu")
    if in_jax_layout:
        jax.fill(model, tensors, path)
    else:
        _check_fit(model.state_dict(), tensors, path, found.name)
        model.load_state_dict(tensors)
    # Looked at in float32, where a float64 value may have become infinite.
    broken = [name for name, tensor in model.state_dict().items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise UserError(f"{path} holds values that are not finite in {listed(broken)}: fetch the weights again")
    return model, used_part


def _size_in_file(model: VisionTransformer, positions: Tensor, path: Path) -> tuple[int, int] | None:
    """The image size whose grid of patches the position embedding has: square, or None for the model's own."""
    if model.pos_embed is None or positions.ndim != 3 or positions.shape[1] == model.pos_embed.shape[1]:
        return None
    patches = positions.shape[1] - (0 if model.no_embed_class else model.num_prefix_tokens)
    side = math.isqrt(max(patches, 0))
    if side == 0 or side * side != patches:
        raise UserError(
            f"{path} has position embeddings for {positions.shape[1]} tokens, which is no square of patches: "
            f"give an architecture with its img_size"
        )
    height, width = model.patch_embed.patch_size
    return side * height, side * width


def _check_fit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], path: Path, name: str) -> None:
    missing = [key for key in expected if key not in given]
    unexpected = [key for key in given if key not in expected]
    misshapen: list[str] = []
    not_floating: list[str] = []
    for key in expected.keys() & given.keys():
        tensor, shape = given[key], expected[key].shape
        if tensor.shape != shape:
            misshapen.append(f"{key} {tuple(tensor.shape)} instead of {tuple(shape)}")
        # Quantised or sparse tensors would be copied as if they were plain numbers.
        elif tensor.layout != torch.strided or not tensor.is_floating_point():
            not_floating.append(key)
    faults = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen, "not floating point": not_floating}
    found = [f"{what} {listed(sorted(keys))}" for what, keys in faults.items() if keys]
    if found:
        raise UserError(f"{path} does not fit backbone '{name}': {', '.join(found)}")


def _resize(model: VisionTransformer, image_size: int | Sequence[int] | None, name: str) -> tuple[int, int]:
    """Bring the model to the image size, None for its own, and return it as (height, width)."""
    own = (int(model.patch_embed.img_size[0]), int(model.patch_embed.img_size[1]))
    if image_size is None:
        sides: list[Any] = list(own)
    else:
        sides = list(image_size) if isinstance(image_size, Sequence) else [image_size, image_size]
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise UserError(f"image_size '{image_size}' is neither a whole number of pixels nor height and width")
    size: tuple[int, int] = (sides[0], sides[1])
    patch = model.patch_embed.patch_size
    if size[0] % patch[0] or size[1] % patch[1]:
        near = [max(1, round(side / step)) * step for side, step in zip(size, patch, strict=True)]
        raise UserError(
            f"image size {size[0]} x {size[1]} is no multiple of the {patch[0]} x {patch[1]} pixel patches of backbone "
            f"'{name}': give for example image_size={near[0] if near[0] == near[1] else near}"
        )
    if size != own:
        model.set_input_size(img_size=size)
    return size


def _json(metadata: Mapping[str, str], key: str, path: Path | None) -> Any:
    if key not in metadata:
        return None
    try:
        return json.loads(metadata[key])
    except ValueError as error:
        raise UserError(f"{path} has metadata under '{key}' that are not JSON: write the file again") from error


def _channels(metadata: Mapping[str, str], key: str, path: Path | None) -> Channels | None:
    values = _json(metadata, key, path)
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != 3 or not all(isinstance(value, int | float) for value in values):
        raise UserError(f"{path} has '{key}' in its metadata that is not a list of three numbers: write the file again")
    return float(values[0]), float(values[1]), float(values[2])

"""From a timm name, or the arguments of timm's `VisionTransformer`, to a model without weights."""

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import timm
from timm.layers.patch_embed import PatchEmbed
from timm.models import get_deprecated_models, get_pretrained_cfg
from timm.models.vision_transformer import VisionTransformer

from src.records.errors import UserError

Channels = tuple[float, float, float]
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """What to build: a timm name with its tag, or the arguments of timm's `VisionTransformer` under any name.

    `mean` and `std` are those of timm's weights of that name; with `arguments`, ImageNet's, for want of better.
    """

    name: str
    arguments: Mapping[str, Any] | None
    mean: Channels
    std: Channels

    def build(self, image_size: tuple[int, int] | None = None) -> VisionTransformer:
        """The model without a head and without drop rates, at `image_size` (height, width) or its own size.

        Raises UserError if it is not timm's plain `VisionTransformer` or the arguments do not build one.
        """
        size: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
        if self.arguments is None:
            model = timm.create_model(self.name, pretrained=False, num_classes=0, **size)
        else:
            try:
                model = VisionTransformer(**{**self.arguments, "num_classes": 0, **size})
            except (TypeError, ValueError, AssertionError, RuntimeError, KeyError, ArithmeticError) as error:
                reason = str(error).split("\n")[0] or "an assertion of timm failed"
                raise UserError(f"the architecture of backbone '{self.name}' does not build: {reason}") from error
        if type(model) is not VisionTransformer or type(model.patch_embed) is not PatchEmbed:
            found = type(model).__name__
            detail = "with a convolutional stem" if type(model) is VisionTransformer else "and not a VisionTransformer"
            raise UserError(f"backbone '{self.name}' is timm's {found} {detail}: choose a plain VisionTransformer")
        return model


def find(name: str, arguments: Mapping[str, Any] | None = None) -> Architecture:
    """The architecture of a timm name, or of the arguments when given. Raises UserError for unknown ones."""
    if arguments is not None:
        return Architecture(name, _checked(name, arguments), IMAGENET_MEAN, IMAGENET_STD)
    name = full_name(name)
    cfg = get_pretrained_cfg(name)
    mean, std = (cfg.mean, cfg.std) if cfg is not None else (IMAGENET_MEAN, IMAGENET_STD)
    return Architecture(name, None, cast(Channels, tuple(mean)), cast(Channels, tuple(std)))


def full_name(name: str) -> str:
    """The timm name with its tag; without one, timm's default tag is added.

    Raises UserError for an unknown name, with the nearest ones, and for timm's former names: there
    `vit_base_patch16_224_in21k` means the augreg weights and not Google's original ones.
    """
    base = name.split(".", 1)[0]
    current = get_deprecated_models().get(name)
    if current is not None:
        model, _, tag = current.partition(".")
        data = tag.rpartition("_")[2]
        others = [other for other in _tagged(model) if other != current and other.endswith(f"_{data}")]
        advice = f"write '{current}'" + "".join(f", or '{other}' for those other weights" for other in others)
        raise UserError(f"backbone '{name}' is a former timm name, which timm takes for '{current}': {advice}")
    known = _tagged(base)
    if name in known:
        return name
    if name == base and known:
        cfg = get_pretrained_cfg(name)
        return f"{name}.{cfg.tag}" if cfg is not None and cfg.tag else name
    nearest = known or difflib.get_close_matches(name, timm.list_models(include_tags="." in name), 4, 0.5)
    raise UserError(f"timm has no backbone '{name}': the nearest names are {', '.join(nearest) or 'none'}")


def _tagged(model: str) -> list[str]:
    """All names with tags of a model without one, or nothing if timm does not have it."""
    return [name for name in timm.list_models(f"{model}*", include_tags=True) if name.split(".", 1)[0] == model]


def _checked(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    known = [key for key in inspect.signature(VisionTransformer).parameters if key not in ("device", "dtype")]
    for key, value in arguments.items():
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, 2)
            advice = f"did you mean {' or '.join(nearest)}" if nearest else f"it has {', '.join(known)}"
            raise UserError(f"the architecture of backbone '{name}' has an unknown argument '{key}': {advice}")
        if value and (key == "num_classes" or key == "drop_path_rate" or key.endswith("drop_rate")):
            raise UserError(f"the architecture of backbone '{name}' sets {key}: leave head and dropout to the method")
    return dict(arguments)

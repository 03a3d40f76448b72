"""Google's JAX layout of a vision transformer (`.npz`), through timm's own loader made strict."""

from collections.abc import Mapping
from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from src.backbones.names import listed
from src.records.errors import UserError

PREFIXES = ("", "opt/target/", "params/", "params/img/")
HEAD = ("head/", "pre_logits/")


def position_embedding(arrays: Mapping[str, Tensor], path: Path) -> Tensor | None:
    """The position embedding (1, tokens, width) of a file in JAX layout, None if it has none."""
    prefix = _prefix(arrays, path)
    names = (f"{prefix}Transformer/posembed_input/pos_embedding", f"{prefix}pos_embedding")
    return next((arrays[name] for name in names if name in arrays), None)


def fill(model: VisionTransformer, arrays: Mapping[str, Tensor], path: Path) -> None:
    """Load the file into the model, every value of it and nothing but it, head excepted.

    timm's loader skips what it does not look for, broadcasts and resamples in silence. So all parameters start as NaN
    and none may be left, and the file must hold exactly as many values as the model takes. Raises UserError.
    """
    prefix = _prefix(arrays, path)
    own = {name: array for name, array in arrays.items() if name.startswith(prefix)}
    own = {name: array for name, array in own.items() if not name.removeprefix(prefix).startswith(HEAD)}
    broken = [name for name, array in own.items() if not bool(torch.isfinite(array).all())]
    if broken:
        raise UserError(f"{path} holds values that are not finite in {listed(broken)}: fetch the weights again")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    try:
        model.load_pretrained(str(path))
    except KeyError as error:
        raise UserError(f"{path} does not fit the backbone: it lacks an array ({error.args[0]})") from error
    except (ValueError, RuntimeError, IndexError, TypeError) as error:
        raise UserError(f"{path} does not fit the backbone: {str(error).splitlines()[0]}") from error
    unfilled = [name for name, parameter in model.named_parameters() if bool(torch.isnan(parameter).any())]
    if unfilled:
        raise UserError(f"{path} does not fit the backbone: it has no values for {listed(unfilled)}")
    held = sum(array.numel() for array in own.values())
    taken = sum(parameter.numel() for parameter in model.parameters())
    if held != taken:
        raise UserError(
            f"{path} does not fit the backbone: it holds {held} values and the backbone takes {taken}, "
            f"so depth, width or patch size differ"
        )


def _prefix(arrays: Mapping[str, Tensor], path: Path) -> str:
    for prefix in PREFIXES:
        if f"{prefix}embedding/kernel" in arrays:
            return prefix
    raise UserError(f"{path} is not in Google's JAX layout of a vision transformer: it has no array 'embedding/kernel'")

"""From the names in other people's files to timm's."""

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from src.records.errors import UserError

logger = logging.getLogger(__name__)

TIMM_ANCHOR = "patch_embed.proj.weight"
HUB_ANCHOR = "embeddings.patch_embeddings.projection.weight"
HEAD = re.compile(r"(head|head_dist|pre_logits|fc|pooler|classifier)\.")
TOP_DOWN = re.compile(r"decoders\.|(prompt|top_down_transform)$")

# The authors' convert_google_vit_large_to_deit.py, for any number of blocks.
HUB_NAMES = (
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.patch_embeddings\.projection\.(weight|bias)", r"patch_embed.proj.\1"),
    (r"layernorm\.(weight|bias)", r"norm.\1"),
    (r"encoder\.layer\.(\d+)\.layernorm_before\.(weight|bias)", r"blocks.\1.norm1.\2"),
    (r"encoder\.layer\.(\d+)\.layernorm_after\.(weight|bias)", r"blocks.\1.norm2.\2"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(weight|bias)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.(weight|bias)", r"blocks.\1.mlp.fc1.\2"),
    (r"encoder\.layer\.(\d+)\.output\.dense\.(weight|bias)", r"blocks.\1.mlp.fc2.\2"),
)
HUB_PROJECTION = r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)"


def to_timm_names(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The backbone's tensors under timm's names: prefix taken off, hub names converted, head and top-down part dropped.

    Any prefix (`module.`, `backbone.`, `enc.`, ...) comes off that stands before every name but a head's. What is
    dropped is said in one log line; everything else passes, known or not. Raises UserError if the file holds several
    backbones or names with and without the prefix.
    """
    stripped, dropped = _strip_prefix(tensors, path)
    if HUB_ANCHOR in stripped:
        stripped = _from_hub(stripped)
    top_down = any(name.startswith("decoders.") for name in stripped)
    kept = {
        name: tensor
        for name, tensor in stripped.items()
        if not HEAD.match(name) and not (top_down and TOP_DOWN.match(name))
    }
    dropped += [name for name in stripped if name not in kept]
    if dropped:
        logger.info("%s: %s left aside, not part of the backbone", path, listed(dropped))
    return kept


def listed(names: Iterable[str], first: int = 3) -> str:
    """A few names and how many there are in all: `7 (a, b, c, ...)`."""
    names = list(names)
    return f"{len(names)} ({', '.join(names[:first])}{', ...' if len(names) > first else ''})"


def _strip_prefix(tensors: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors without the prefix of the patch embedding, and the names of the head that stand outside it."""
    anchors = (TIMM_ANCHOR, HUB_ANCHOR)
    prefixes = {name.removesuffix(end) for name in tensors for end in anchors if f".{name}".endswith(f".{end}")}
    if len(prefixes) > 1:
        raise UserError(
            f"{path} holds several backbones, under {' and '.join(repr(prefix) for prefix in sorted(prefixes))}: "
            f"save the one you mean in a file of its own"
        )
    prefix = prefixes.pop() if prefixes else ""
    inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    outside = [name for name in tensors if not name.startswith(prefix)]
    # `module.backbone.` has its head at `module.head.`, `enc.` at `head.`.
    parents = ["", *(prefix[: dot.end()] for dot in re.finditer(r"\.", prefix))]
    foreign = [name for name in outside if not any(HEAD.match(name.removeprefix(parent)) for parent in parents)]
    if foreign:
        raise UserError(
            f"{path} holds a backbone under '{prefix}' and {listed(foreign)} outside it: "
            f"save the backbone in a file of its own"
        )
    return inside, outside


def _from_hub(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the hub's transformer names and stack query, key and value, in this order, to timm's `qkv`."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        projection = re.fullmatch(HUB_PROJECTION, name)
        if projection is None:
            matches = (re.sub(f"^{pattern}$", ours, name) for pattern, ours in HUB_NAMES)
            renamed[next((ours for ours in matches if ours != name), name)] = tensor
            continue
        block, _, kind = projection.groups()
        start = f"encoder.layer.{block}.attention.attention."
        three = [tensors.get(f"{start}{which}.{kind}") for which in ("query", "key", "value")]
        whole = [item for item in three if item is not None and item.shape == tensor.shape]
        # An incomplete triple keeps its names, for the strict comparison to list.
        if len(whole) == 3:
            renamed[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(whole)
        else:
            renamed[name] = tensor
    return renamed

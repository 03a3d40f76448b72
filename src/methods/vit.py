"""Stepping through an unmodified timm `VisionTransformer`: the only place that knows what its blocks look like."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention, Mlp
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

Linear = Callable[[str, nn.Linear, Tensor], Tensor]
"""Applies one linear layer of a block: (its name, the layer, input (B, N, in)) -> (B, N, out)."""


class UnsupportedBackbone(ValueError):
    """The backbone is not a `VisionTransformer` whose blocks this project can step through."""


class Trace(dict[str, Tensor]):
    """Collects the named intermediates that were asked for, and nothing else."""

    def __init__(self, want: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.want = frozenset(want)

    def note(self, name: str, value: Tensor) -> None:
        """Keep `value` under `name` if it was asked for."""
        if name in self.want:
            self[name] = value


def check_backbone(backbone: nn.Module) -> VisionTransformer:
    """Return the backbone if its parts are those that `embed`, `run_block` and `final_norm` step through.

    Raises UnsupportedBackbone with the first difference found.
    """

    def refuse(reason: str) -> UnsupportedBackbone:
        return UnsupportedBackbone(f"this backbone cannot be used: {reason}")

    if type(backbone) is not VisionTransformer:
        raise refuse(f"{type(backbone).__name__} is not timm's VisionTransformer")
    if not backbone.has_class_token:
        raise refuse("it has no class token, which the head reads")
    if backbone.global_pool != "token" or not isinstance(backbone.fc_norm, nn.Identity):
        raise refuse(f"it pools by {backbone.global_pool!r}; only the class token after the final norm is supported")
    if not isinstance(backbone.patch_drop, nn.Identity):
        raise refuse("it drops patches at random")
    for place, block in enumerate(blocks_of(backbone)):
        if type(block) is not Block:
            raise refuse(f"block {place} is a {type(block).__name__}, not timm's plain Block")
        if type(block.attn) is not Attention:
            raise refuse(f"block {place} attends by {type(block.attn).__name__}, not timm's plain Attention")
        if type(block.mlp) is not Mlp:
            raise refuse(f"block {place} has a {type(block.mlp).__name__} where a plain Mlp is expected")
        if getattr(block.attn, "gate", None) is not None:
            raise refuse(f"block {place} gates its attention")
        width = block.attn.qkv.in_features
        if block.attn.qkv.out_features != 3 * width:
            raise refuse(f"block {place} projects {width} channels to queries, keys and values of another width")
    dropouts = [name for name, part in backbone.named_modules() if isinstance(part, nn.Dropout) and part.p > 0]
    if dropouts or any(
        not isinstance(path, nn.Identity) for b in blocks_of(backbone) for path in (b.drop_path1, b.drop_path2)
    ):
        raise refuse("it was built with dropout or drop path; build it without, the method draws its own")
    return backbone


def blocks_of(backbone: VisionTransformer) -> list[Any]:
    """The backbone's blocks, first to last."""
    return list(backbone.blocks)


def embed(backbone: VisionTransformer, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) to tokens (B, N, d) after the position embedding, class token first."""
    tokens: Tensor = backbone.norm_pre(backbone._pos_embed(backbone.patch_embed(images)))
    return tokens


def plain_linear(name: str, layer: nn.Linear, x: Tensor) -> Tensor:
    """The layer as it is."""
    out: Tensor = layer(x)
    return out


def run_block(
    block: Any,
    x: Tensor,
    *,
    signal: Tensor | None = None,
    value_biases: int = 1,
    factors: Tensor | None = None,
    linear: Linear = plain_linear,
    trace: Trace | None = None,
    name: str = "",
) -> Tensor:
    """One block, steered by a top-down signal if there is one.

    x, signal: (B, N, d). The signal is added to the input of the value projection only, whose bias then counts
    `value_biases` times: queries and keys never see it (TOAST, section 4.1; the authors' vit_top_down.py, where the
    projected signal brings the bias along a second time).
    factors: (B, 2), what the attention and the MLP branch are multiplied by (drop path: 0 or 1 / keep).
    linear: how each of the block's linear layers (qkv, proj, fc1, fc2) is applied.
    trace: notes `<name>.input`, `<name>.attention` (B, heads, N, N) and `<name>` (the output) if asked for.
    """
    attention, mlp = block.attn, block.mlp
    batch, tokens, width = x.shape
    normed = block.norm1(x)
    if signal is None:
        query, key, value = linear("qkv", attention.qkv, normed).chunk(3, dim=-1)
    else:
        weight, bias = attention.qkv.weight, attention.qkv.bias
        query, key = F.linear(normed, weight[: 2 * width], None if bias is None else bias[: 2 * width]).chunk(2, dim=-1)
        value_bias = None if bias is None else value_biases * bias[2 * width :]
        value = F.linear(normed + signal, weight[2 * width :], value_bias)
    query, key, value = (t.reshape(batch, tokens, attention.num_heads, -1).transpose(1, 2) for t in (query, key, value))
    query, key = attention.q_norm(query), attention.k_norm(key)
    if trace is not None and f"{name}.attention" in trace.want:
        # Fused attention never materialises the map; the plain form is taken only when it is asked for.
        weights = (attention.scale * query @ key.transpose(-2, -1)).softmax(dim=-1)
        trace.note(f"{name}.attention", weights)
        mixed = weights @ value
    else:
        mixed = F.scaled_dot_product_attention(query, key, value)
    mixed = attention.norm(mixed.transpose(1, 2).reshape(batch, tokens, width))
    branch = block.ls1(linear("proj", attention.proj, mixed))
    inner = x + (branch if factors is None else factors[:, 0, None, None] * branch)
    hidden = mlp.norm(mlp.act(linear("fc1", mlp.fc1, block.norm2(inner))))
    branch = block.ls2(linear("fc2", mlp.fc2, hidden))
    out: Tensor = inner + (branch if factors is None else factors[:, 1, None, None] * branch)
    if trace is not None:
        trace.note(f"{name}.input", x)
        trace.note(name, out)
    return out


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Drop path rates that rise linearly from 0 in the first block to `rate` in the last."""
    rates: list[float] = torch.linspace(0, rate, depth, dtype=torch.float64).tolist()
    return rates

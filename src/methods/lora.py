"""LoRA on the linear layers of a ViT's blocks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from src.methods.low_rank import LowRank
from src.methods.method import Features, Method, Noise, generator
from src.methods.vit import Trace, blocks_of, run_block

PARTS = ("query", "key", "value")
PROJECTIONS = ("qkv", *PARTS, "proj", "fc1", "fc2")


class Lora(Method):
    """Low-rank updates beside frozen linear layers.

    rank, alpha: the update is scaled by alpha / rank. projections: which layers get one: `qkv` (one pair over the fused
    queries, keys and values, as the authors of TOAST have it, whose alpha is loralib's default 1), `query`, `key`,
    `value` (a pair each), `proj`, `fc1`, `fc2`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        rank: int = 4,
        alpha: float = 1.0,
        projections: Sequence[str] = ("qkv",),
        drop_path: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, num_classes, drop_path=drop_path, seed=seed)
        unknown = [name for name in projections if name not in PROJECTIONS]
        if unknown or not projections:
            raise ValueError(f"projections are some of {', '.join(PROJECTIONS)}, not {', '.join(unknown) or 'none'}")
        if "qkv" in projections and set(PARTS) & set(projections):
            raise ValueError("projections: qkv already covers query, key and value; take one or the other")
        random = generator(seed, "lora")
        self.updates = nn.ModuleList()
        for block in blocks_of(self.backbone):
            updates = {name: LowRank(*self.layer_size(block, name), rank, alpha, random) for name in projections}
            self.updates.append(nn.ModuleDict(updates))
        self.merged = False
        self.freeze()

    @staticmethod
    def layer_size(block: Any, name: str) -> tuple[int, int]:
        """Inputs and outputs of the layer, or of the third of the fused one, that carries the name."""
        if name in PARTS:
            return block.attn.qkv.in_features, block.attn.qkv.out_features // 3
        layer = getattr(block.attn if name in ("qkv", "proj") else block.mlp, name)
        return layer.in_features, layer.out_features

    def trains(self, name: str) -> bool:
        return name.startswith(("updates.", "head."))

    def before(self, images: Tensor, noise: Noise, trace: Trace) -> Features:
        return {"tokens": self.embed(images, trace)}

    def after(self, features: Features, noise: Noise, trace: Trace) -> Tensor:
        x = features["tokens"]
        for place, block in enumerate(blocks_of(self.backbone)):
            updates = self.updates[place]

            def linear(name: str, layer: nn.Linear, x: Tensor, updates: Any = updates) -> Tensor:
                out: Tensor = layer(x)
                return out if self.merged else add_updates(out, name, x, updates)

            factors = self.factors(noise, 1, place)
            x = run_block(block, x, factors=factors, linear=linear, trace=trace, name=f"pass1.block{place}")
        return self.classify(x, trace, 1)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the updates to the backbone's weights, for inference at the backbone's own cost; twice is once."""
        if self.merged:
            return
        updates: Any
        for block, updates in zip(blocks_of(self.backbone), self.updates, strict=True):
            for name, update in updates.items():
                if name in PARTS:
                    block.attn.qkv.weight.chunk(3)[PARTS.index(name)].add_(update.matrix())
                else:
                    getattr(block.attn if name in ("qkv", "proj") else block.mlp, name).weight.add_(update.matrix())
        self.merged = True


def add_updates(out: Tensor, name: str, x: Tensor, updates: Any) -> Tensor:
    """The output (B, N, out) of layer `name` for input x (B, N, in), plus the updates that belong to it."""
    if name in updates:
        updated: Tensor = out + updates[name](x)
        return updated
    if name == "qkv" and any(part in updates for part in PARTS):
        thirds = zip(PARTS, out.chunk(3, dim=-1), strict=True)
        return torch.cat([third + updates[part](x) if part in updates else third for part, third in thirds], dim=-1)
    return out

"""What every method is: a frozen part that runs without autograd, and an adapted part up to the logits."""

import hashlib
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from src.methods.vit import Trace, blocks_of, check_backbone, drop_path_rates, embed, run_block

Features = dict[str, Tensor]
"""What `frozen` hands to `adapted`: tensors by name, batch first, the intermediates asked for among them."""

Noise = Mapping[str, Tensor]
"""Random factors by name, batch first, each 0 or 1 / keep; see `Method.noise`."""


@dataclass(frozen=True)
class Draw:
    """Random factors that a method multiplies by: 1 / keep with probability keep, else 0."""

    shape: tuple[int, ...]
    """Shape for one example."""
    keep: Tensor
    """Probability, broadcastable to `shape`."""


@dataclass(frozen=True)
class Output:
    """Logits (B, C), and the intermediates that were asked for by name."""

    logits: Tensor
    intermediates: dict[str, Tensor] = field(default_factory=dict)


def generator(seed: int, stream: str) -> torch.Generator:
    """A CPU generator of its own for each purpose, so that what one draws never depends on what another drew."""
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class Method(nn.Module):
    """A way to transfer `backbone` to `num_classes` classes.

    backbone: an unmodified timm VisionTransformer without classifier; its parameters are frozen unless the method
        says otherwise.
    drop_path: rate of stochastic depth in the last block, rising linearly from 0 in the first. The authors keep it on
        in the frozen backbone, for linear probing too (their vit.py in train mode).
    seed: what the new parameters are drawn from, on the CPU.

    Raises UnsupportedBackbone if the backbone's blocks look different from timm's plain ones.
    """

    passes = 1
    worth_caching = False
    """Whether `frozen` computes so much that its results are worth keeping."""

    def __init__(self, backbone: nn.Module, num_classes: int, *, drop_path: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path is a rate from 0 to below 1, not {drop_path}")
        self.backbone = check_backbone(backbone)
        self.depth = len(self.backbone.blocks)
        self.width = self.backbone.embed_dim
        self.drop_path = drop_path
        self.train_backbone = False
        self.head = nn.Linear(self.width, num_classes)
        # Kaiming-normal by fan-out (std sqrt(2 / C)), bias at the logit of 1 %: the authors' mlp.py.
        nn.init.kaiming_normal_(self.head.weight, mode="fan_out", generator=generator(seed, "head"))
        nn.init.constant_(self.head.bias, -math.log((1 - 0.01) / 0.01))

    # What a method declares

    def trained(self) -> list[str]:
        """Names of the parameters that training changes, head included."""
        own = [name for name, _ in self.named_parameters() if self.trains(name)]
        return own

    @abstractmethod
    def trains(self, name: str) -> bool:
        """Whether training changes the parameter of that name."""

    def undecayed(self) -> set[str]:
        """Names of the trained parameters without weight decay: the authors leave out the head's bias alone."""
        return {"head.bias"}

    def noise(self) -> dict[str, Draw]:
        """The random factors that training draws for each example; empty where the method is deterministic."""
        if self.drop_path == 0:
            return {}
        keep = 1 - torch.tensor(drop_path_rates(self.drop_path, self.depth), dtype=torch.float64)
        return {"drop_path": Draw((self.passes, self.depth, 2), keep[None, :, None])}

    @abstractmethod
    def before(self, images: Tensor, noise: Noise, trace: Trace) -> Features:
        """From images (B, 3, H, W) to what `after` needs, touching no parameter but the backbone's."""

    @abstractmethod
    def after(self, features: Features, noise: Noise, trace: Trace) -> Tensor:
        """From the features to the logits (B, C)."""

    # What the world calls

    def frozen(self, images: Tensor, noise: Noise | None = None, want: Iterable[str] = ()) -> Features:
        """What no trained parameter can change, without autograd; cacheable where it draws no noise.

        images: (B, 3, H, W), normalised. noise: factors as `noise()` describes them, or none. want: names of
        intermediates to hand over too.
        """
        if self.train_backbone:
            return {"images": images}
        trace = Trace(tuple(want))
        with torch.no_grad():
            return {**self.before(images, noise or {}, trace), **trace}

    def adapted(self, features: Features, noise: Noise | None = None, want: Iterable[str] = ()) -> Output:
        """Everything else, up to the logits (B, C)."""
        trace = Trace(tuple(want))
        if self.train_backbone:
            features = self.before(features["images"], noise or {}, trace)
        else:
            trace.update({name: value for name, value in features.items() if name in trace.want})
        logits = self.after(features, noise or {}, trace)
        return Output(logits, dict(trace))

    def forward(self, images: Tensor, noise: Noise | None = None, want: Iterable[str] = ()) -> Output:
        """Both parts. Raises KeyError for a wanted intermediate that this method does not have."""
        want = tuple(want)
        output = self.adapted(self.frozen(images, noise, want), noise, want)
        missing = sorted(set(want) - set(output.intermediates))
        if missing:
            raise KeyError(f"{type(self).__name__} has no intermediate named {', '.join(missing)}")
        return output

    # What methods share

    def freeze(self) -> None:
        """Let autograd see the trained parameters only; each constructor ends with it."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(self.trains(name))

    def embed(self, images: Tensor, trace: Trace) -> Tensor:
        """Images (B, 3, H, W) to the tokens (B, N, d) that enter the first block."""
        tokens = embed(self.backbone, images)
        trace.note("pass1.embed", tokens)
        return tokens

    def run_blocks(
        self, x: Tensor, noise: Noise, trace: Trace, *, first: int = 0, last: int | None = None, number: int = 1
    ) -> Tensor:
        """Blocks `first` to before `last` of pass `number`, unsteered: (B, N, d) to (B, N, d)."""
        for place in range(first, self.depth if last is None else last):
            factors = self.factors(noise, number, place)
            x = run_block(
                blocks_of(self.backbone)[place], x, factors=factors, trace=trace, name=f"pass{number}.block{place}"
            )
        return x

    def factors(self, noise: Noise, number: int, block: int) -> Tensor | None:
        """Drop path factors (B, 2) of one block in one pass, or none."""
        return noise["drop_path"][:, number - 1, block] if "drop_path" in noise else None

    def classify(self, x: Tensor, trace: Trace, number: int) -> Tensor:
        """Final norm of pass `number`, then the head on the class token: (B, N, d) to (B, C)."""
        tokens = self.backbone.norm(x)
        trace.note(f"pass{number}.norm", tokens)
        logits: Tensor = self.head(tokens[:, 0])
        return logits

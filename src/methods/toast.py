"""TOAST (Shi et al., 2023): select in the output what matters, feed it back into the attention of a second pass."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.methods.low_rank import LowRank
from src.methods.method import Features, Method, Noise, generator
from src.methods.pretuned import read_pretuned
from src.methods.vit import Trace, blocks_of, run_block


class FeedbackLinear(nn.Linear):
    """A (d, d) matrix without bias, with a low-rank update beside it if `rank` is given (TOAST-Lite)."""

    def __init__(self, width: int, rank: int | None, alpha: float, random: torch.Generator) -> None:
        super().__init__(width, width, bias=False)
        nn.init.trunc_normal_(self.weight, std=0.02, generator=random)
        self.update = LowRank(width, width, rank, alpha, random) if rank else None

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if self.update is None else out + self.update(x)


class FeedbackLayer(nn.Module):
    """One step of the feedback path: `chain` carries the selection on (A_l), `signal` makes the block's input (B_l)."""

    def __init__(self, width: int, rank: int | None, alpha: float, random: torch.Generator) -> None:
        super().__init__()
        self.chain = FeedbackLinear(width, rank, alpha, random)
        self.signal = FeedbackLinear(width, rank, alpha, random)


class Toast(Method):
    """TOAST, TOAST-Lite (`rank`) and TOAST-Late (`first_block`).

    rank: train low-rank updates (scaled by `alpha` / rank) on the feedback layers instead of the layers (section 4.3).
    first_block: the first block that gets a signal, counted from 0; negative counts from the end, None means two
        thirds of the depth. What lies below is shared by both passes.
    train_channel_transform: off in the authors' TOAST, on in their Lite (their name filter) and in the paper (4.1).
    value_biases: how often the value projection's bias counts: 1 as in the paper's equation, 2 as in the authors' code.
    init: `random` (feedback truncated normal, std 0.02; task embedding standard normal; channel transform the
        identity), or the path of a pre-tuned module, loaded strictly.
    token_selection, channel_selection: off for the ablations of Table 8.
    decay_task_embedding: the authors' PRIOR_DECAY, on by default.
    train_backbone: train everything, as pre-training does.
    """

    passes = 2
    worth_caching = True

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        rank: int | None = None,
        alpha: float = 1.0,
        first_block: int | None = 0,
        train_channel_transform: bool = False,
        value_biases: int = 2,
        init: str = "random",
        token_selection: bool = True,
        channel_selection: bool = True,
        decay_task_embedding: bool = True,
        train_backbone: bool = False,
        drop_path: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, num_classes, drop_path=drop_path, seed=seed)
        if value_biases not in (1, 2):
            raise ValueError(f"value_biases is 1 (the paper's equation) or 2 (the authors' code), not {value_biases}")
        self.first_block = self.resolve_block(first_block)
        self.rank = rank
        self.train_channel_transform = train_channel_transform
        self.value_biases = value_biases
        self.token_selection = token_selection
        self.channel_selection = channel_selection
        self.decay_task_embedding = decay_task_embedding
        self.train_backbone = train_backbone
        random = generator(seed, "toast")
        self.task_embedding = nn.Parameter(torch.empty(self.width))
        nn.init.normal_(self.task_embedding, generator=random)
        self.channel_transform = nn.Parameter(torch.eye(self.width))
        # Drawn for every block and kept from `first_block` on, so that Late's layers are those of TOAST.
        layers = [FeedbackLayer(self.width, rank, alpha, random) for _ in range(self.depth)]
        self.feedback = nn.ModuleDict({str(place): layers[place] for place in range(self.first_block, self.depth)})
        self.init_sha256: str | None = None
        if init != "random":
            tensors, self.init_sha256 = read_pretuned(Path(init), range(self.first_block, self.depth))
            self.load_pretuned(tensors)
        self.freeze()

    def resolve_block(self, first_block: int | None) -> int:
        """The block where signals enter, from 0; the default of Late is two thirds of the depth."""
        place = self.depth * 2 // 3 if first_block is None else first_block
        if not -self.depth <= place < self.depth:
            raise ValueError(f"first_block is from 0 to {self.depth - 1} for this backbone, not {first_block}")
        return place % self.depth

    @torch.no_grad()
    def load_pretuned(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy a pre-tuned module's tensors, named as our parameters are, over the random start."""
        own = dict(self.named_parameters())
        for name, value in tensors.items():
            if own[name].shape != value.shape:
                raise ValueError(
                    f"method.init: {name} is {tuple(value.shape)} in the file and {tuple(own[name].shape)} here; "
                    "it was pre-tuned for a backbone of another width"
                )
            own[name].copy_(value)

    def trains(self, name: str) -> bool:
        if name.startswith("backbone."):
            return self.train_backbone
        if name == "task_embedding":
            return self.token_selection
        if name == "channel_transform":
            return self.channel_selection and self.train_channel_transform
        if name.startswith("feedback."):
            return self.channel_selection and (self.rank is None or ".update." in name)
        return True

    def undecayed(self) -> set[str]:
        return super().undecayed() | (set() if self.decay_task_embedding else {"task_embedding"})

    def before(self, images: Tensor, noise: Noise, trace: Trace) -> Features:
        entry = self.run_blocks(self.embed(images, trace), noise, trace, last=self.first_block)
        last = self.run_blocks(entry, noise, trace, first=self.first_block)
        first_pass = self.backbone.norm(last)
        trace.note("pass1.norm", first_pass)
        return {"tokens": entry, "first_pass": first_pass}

    def after(self, features: Features, noise: Noise, trace: Trace) -> Tensor:
        signals = self.feed_back(self.select(features["first_pass"], trace), trace)
        x = features["tokens"]
        if self.first_block == 0:
            trace.note("pass2.embed", x)
        for place in range(self.first_block, self.depth):
            x = run_block(
                blocks_of(self.backbone)[place],
                x,
                signal=signals[place],
                value_biases=self.value_biases,
                factors=self.factors(noise, 2, place),
                trace=trace,
                name=f"pass2.block{place}",
            )
        return self.classify(x, trace, 2)

    def select(self, first_pass: Tensor, trace: Trace) -> Tensor:
        """Token and channel selection of the first pass's normed tokens (B, N, d), class token included."""
        if self.token_selection:
            tokens = F.normalize(first_pass, dim=-1, eps=1e-12)
            similarity = (tokens @ F.normalize(self.task_embedding, dim=-1, eps=1e-12)).unsqueeze(-1)
            mask = similarity.clamp(0, 1)
            trace.note("similarity", similarity)
            trace.note("mask", mask)
            first_pass = mask * first_pass
        selected = first_pass @ self.channel_transform
        trace.note("selected", selected)
        return selected

    def feed_back(self, selected: Tensor, trace: Trace) -> dict[int, Tensor]:
        """The top-down signal (B, N, d) of each steered block, made from the last block to the first."""
        signals = {}
        for place in reversed(range(self.first_block, self.depth)):
            layer: Any = self.feedback[str(place)]
            selected = layer.chain(selected)
            signals[place] = layer.signal(selected)
            trace.note(f"top_down.block{place}", signals[place])
        return signals

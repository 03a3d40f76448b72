"""Visual prompt tuning (Jia et al., 2022): trained tokens beside those of the image."""

import math

import torch
from torch import Tensor, nn

from src.methods.method import Draw, Features, Method, Noise, generator
from src.methods.vit import Trace, blocks_of, run_block


class Vpt(Method):
    """Prompts between the class token and the patches, in every block (deep) or before the first (shallow).

    prompts: number of prompts a layer. deep: each block gets prompts of its own, which take the place of what the
    block before made of its; else the first block's travel through all. prompt_dropout: rate of dropout on them.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        prompts: int = 100,
        deep: bool = True,
        prompt_dropout: float = 0.0,
        drop_path: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, num_classes, drop_path=drop_path, seed=seed)
        if prompts < 1:
            raise ValueError(f"vpt needs at least one prompt, not {prompts}")
        if not 0 <= prompt_dropout < 1:
            raise ValueError(f"prompt_dropout is a rate from 0 to below 1, not {prompt_dropout}")
        self.prompt_dropout = prompt_dropout
        self.prompts = nn.Parameter(torch.empty(self.depth if deep else 1, prompts, self.width))
        patch = math.prod(self.backbone.patch_embed.patch_size)
        bound = math.sqrt(6 / (3 * patch + self.width))
        nn.init.uniform_(self.prompts, -bound, bound, generator=generator(seed, "prompts"))
        self.freeze()

    def trains(self, name: str) -> bool:
        return name == "prompts" or name.startswith("head.")

    def noise(self) -> dict[str, Draw]:
        draws = super().noise()
        if self.prompt_dropout > 0:
            draws["prompt_dropout"] = Draw(tuple(self.prompts.shape), torch.tensor(1 - self.prompt_dropout))
        return draws

    def before(self, images: Tensor, noise: Noise, trace: Trace) -> Features:
        return {"tokens": self.embed(images, trace)}

    def after(self, features: Features, noise: Noise, trace: Trace) -> Tensor:
        x = features["tokens"]
        front, rest = self.backbone.num_prefix_tokens, self.backbone.num_prefix_tokens
        for place, block in enumerate(blocks_of(self.backbone)):
            if place < len(self.prompts):
                prompts = self.prompts[place].expand(len(x), -1, -1)
                if "prompt_dropout" in noise:
                    prompts = prompts * noise["prompt_dropout"][:, place]
                x = torch.cat([x[:, :front], prompts, x[:, rest:]], dim=1)
                rest = front + prompts.shape[1]
            x = run_block(block, x, factors=self.factors(noise, 1, place), trace=trace, name=f"pass1.block{place}")
        return self.classify(x, trace, 1)

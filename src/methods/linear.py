"""Linear probing and full fine-tuning: the two ends of transfer learning."""

from torch import Tensor, nn

from src.methods.method import Features, Method, Noise
from src.methods.vit import Trace


class Linear(Method):
    """A linear head on the class token of the frozen backbone."""

    worth_caching = True

    def __init__(self, backbone: nn.Module, num_classes: int, *, drop_path: float = 0.0, seed: int = 0) -> None:
        super().__init__(backbone, num_classes, drop_path=drop_path, seed=seed)
        self.freeze()

    def trains(self, name: str) -> bool:
        return name.startswith("head.")

    def before(self, images: Tensor, noise: Noise, trace: Trace) -> Features:
        tokens = self.backbone.norm(self.run_blocks(self.embed(images, trace), noise, trace))
        trace.note("pass1.norm", tokens)
        return {"pooled": tokens[:, 0]}

    def after(self, features: Features, noise: Noise, trace: Trace) -> Tensor:
        logits: Tensor = self.head(features["pooled"])
        return logits


class Finetune(Linear):
    """The same model with every parameter trained."""

    def __init__(self, backbone: nn.Module, num_classes: int, *, drop_path: float = 0.0, seed: int = 0) -> None:
        super().__init__(backbone, num_classes, drop_path=drop_path, seed=seed)
        self.train_backbone = True
        self.freeze()

    def trains(self, name: str) -> bool:
        return True

"""The methods: pure PyTorch on unmodified timm vision transformers."""

from src.methods.linear import Finetune, Linear
from src.methods.lora import Lora
from src.methods.method import Draw, Features, Method, Noise, Output
from src.methods.toast import Toast
from src.methods.vit import UnsupportedBackbone
from src.methods.vpt import Vpt

__all__ = [
    "Draw", "Features", "Finetune", "Linear", "Lora", "Method", "Noise", "Output", "Toast",
    "UnsupportedBackbone", "Vpt",
]  # fmt: skip

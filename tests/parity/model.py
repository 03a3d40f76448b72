"""Builds our method from a golden file, and translates the authors' parameter names into ours."""

import json
import re
from functools import partial
from typing import Any

import numpy as np
import torch
from timm.layers import LayerNorm
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from src.methods import Finetune, Linear, Lora, Method, Toast, Vpt

PATTERNS = [
    (r"head\.last_layer\.(.+)", r"head.\1"),
    (r"enc\.prompt", "task_embedding"),
    (r"enc\.top_down_transform", "channel_transform"),
    (r"enc\.decoders\.(\d+)\.linear\.weight", r"feedback.\1.chain.weight"),
    (r"enc\.decoders\.(\d+)\.linear2\.weight", r"feedback.\1.signal.weight"),
    (r"enc\.decoders\.(\d+)\.linear\.lora_([AB])", r"feedback.\1.chain.update.\2"),
    (r"enc\.decoders\.(\d+)\.linear2\.lora_([AB])", r"feedback.\1.signal.update.\2"),
    (r"enc\.blocks\.(\d+)\.attn\.qkv\.lora_([AB])", r"updates.\1.qkv.\2"),
    (r"enc\.(?:deep_)?prompt_embeddings", "prompts"),
    (r"enc\.(.+)", r"backbone.\1"),
]


def our_name(theirs: str) -> str:
    """Our name of the parameter that the authors call `theirs`."""
    for pattern, ours in PATTERNS:
        match = re.fullmatch(pattern, theirs)
        if match:
            return re.sub(r"\.([AB])$", lambda m: "." + m[1].lower(), match.expand(ours))
    raise KeyError(theirs)


def our_part(theirs: str, value: Tensor) -> Tensor:
    """The part of our tensor `value` (a parameter, gradient or momentum) that the authors keep under `theirs`."""
    if theirs == "enc.prompt_embeddings":
        return value[:1]
    if theirs == "enc.deep_prompt_embeddings":
        return value[1:]
    return value


def state_dict(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The file's weights under our names."""
    theirs = {key[3:]: torch.from_numpy(value) for key, value in arrays.items() if key.startswith("sd/")}
    state = {our_name(name): value for name, value in theirs.items()}
    if "enc.deep_prompt_embeddings" in theirs:
        # The first block's prompts and the deeper ones' are two tensors there and one here.
        state["prompts"] = torch.cat([theirs["enc.prompt_embeddings"], theirs["enc.deep_prompt_embeddings"]])
    return state


def build(arrays: dict[str, np.ndarray]) -> Method:
    """The method of a `vit_*` or `optim_*` file with the file's weights, every dimension read from the file."""
    meta: dict[str, Any] = json.loads(str(arrays["meta"]))
    state = state_dict(arrays)
    width, _, patch, _ = state["backbone.patch_embed.proj.weight"].shape
    depth = 1 + max(int(m[1]) for m in (re.match(r"backbone\.blocks\.(\d+)", name) for name in state) if m)
    backbone = VisionTransformer(
        img_size=tuple(arrays["x"].shape[-2:]),
        patch_size=patch,
        num_classes=0,
        embed_dim=width,
        depth=depth,
        num_heads=meta["heads"],
        # timm rounds width * ratio down; the half keeps it from losing a channel.
        mlp_ratio=(state["backbone.blocks.0.mlp.fc1.weight"].shape[0] + 0.5) / width,
        qkv_bias="backbone.blocks.0.attn.qkv.bias" in state,
        norm_layer=partial(LayerNorm, eps=meta["eps"]),
    )
    classes = len(state["head.bias"])
    method = method_of(meta, state)(backbone, classes).to(torch.from_numpy(arrays["x"]).dtype)
    method.load_state_dict(state, strict=True)
    return method


def method_of(meta: dict[str, Any], state: dict[str, Tensor]) -> Any:
    """Our class, with the options that the file's method stands for."""
    drop_path = meta.get("drop_path_rate", 0.0)
    rank = next((value.shape[0] for name, value in state.items() if name.endswith(".a")), 4)
    alpha = meta.get("lora_alpha", 1)
    match meta["method"]:
        case "linear":
            return partial(Linear, drop_path=drop_path)
        case "finetune":
            return partial(Finetune, drop_path=drop_path)
        case "vpt_deep" | "vpt_shallow":
            prompts = state["prompts"]
            return partial(Vpt, prompts=prompts.shape[1], deep=len(prompts) > 1, drop_path=drop_path)
        case "lora":
            return partial(Lora, rank=rank, alpha=alpha, drop_path=drop_path)
        case "toast":
            decay = meta.get("prior_decay", True)
            return partial(Toast, decay_task_embedding=decay, drop_path=drop_path)
        case "toast_lite":
            return partial(Toast, rank=rank, alpha=alpha, train_channel_transform=True, drop_path=drop_path)
        case "toast_end2end":
            return partial(Toast, train_backbone=True, train_channel_transform=True, drop_path=drop_path)
    raise KeyError(f"no method of ours for {meta['method']!r}")

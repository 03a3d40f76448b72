"""Computes with our methods what the golden files hold: every function yields (golden key, our value)."""

import json
import re
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from src.methods import Method
from src.training.optim import Sgd, cosine
from tests.parity.model import build, our_name, our_part

Arrays = dict[str, np.ndarray]
Found = Iterator[tuple[str, Tensor]]

INTERMEDIATES = [
    (r"(pass\d)/(embed|norm)", r"\1.\2"),
    (r"(pass\d)/block/(\d+)", r"\1.block\2"),
    (r"(pass\d)/block_in/(\d+)", r"\1.block\2.input"),
    (r"attn/(pass\d)/(\d+)", r"\1.block\2.attention"),
    (r"td/(\d+)", r"top_down.block\1"),
    (r"cos", "similarity"),
    (r"mask", "mask"),
    (r"feedback_in", "selected"),
]


def intermediates(arrays: Arrays) -> dict[str, str]:
    """Our name of every intermediate that the file holds, by its key."""
    names = {}
    for key in arrays:
        for pattern, ours in INTERMEDIATES:
            match = re.fullmatch(pattern, key)
            if match:
                names[key] = match.expand(ours)
    return names


# What a later room will cover: pre-training, ConvNeXt, LLaMA and whatever else; and a schedule that no recipe uses.
LATER = (
    r"(?!vit_|optim_|lr_schedule/).*|optim_pretune.*|.*/(var_|pretune_).*"
    r"|lr_schedule/(timm_cosine|cosine_hardrestart)/.*"
)


def recompute(name: str, arrays: Arrays) -> Found:
    """What the file `name` holds, computed by our code. Raises ValueError for a kind of file that is not known."""
    if name == "lr_schedule":
        return schedule(arrays)
    if name.startswith("optim_"):
        return optimiser_steps(arrays)
    if name.startswith("vit_"):
        return one_step(arrays)
    raise ValueError(f"no code of ours computes a file named {name}")


def one_step(arrays: Arrays) -> Found:
    """Outputs, intermediates, loss and gradients of a `vit_*` file."""
    method = build(arrays)
    check_trained(method, arrays)
    images, labels = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    names = intermediates(arrays)
    output = method(images, drop_factors(arrays), names.values())
    yield "train_out" if "train_out" in arrays else "out", output.logits
    for key, ours in names.items():
        yield key, output.intermediates[ours]
    # Once more without collecting anything: fused attention, the path that training takes.
    method.zero_grad()
    logits = method(images, drop_factors(arrays)).logits
    yield "train_out" if "train_out" in arrays else "out", logits
    loss = F.cross_entropy(logits, labels)
    yield "loss", loss
    loss.backward()
    gradients = {parameter: value.grad for parameter, value in method.named_parameters()}
    for key in arrays:
        if key.startswith("grad/"):
            yield key, our_part(key[5:], gradients[our_name(key[5:])])


def drop_factors(arrays: Arrays) -> dict[str, Tensor]:
    """The drop path factors that the file stores, as `Method.noise` has them: (B, passes, L, 2)."""
    passes = sorted({key.split("/")[1] for key in arrays if key.startswith("drop/")})
    if not passes:
        return {}
    branches = [np.stack([arrays[f"drop/{p}/attn"], arrays[f"drop/{p}/mlp"]], axis=-1) for p in passes]
    return {"drop_path": torch.from_numpy(np.stack(branches)).permute(2, 0, 1, 3)}


def optimiser_steps(arrays: Arrays) -> Found:
    """Learning rates, losses, parameters and momenta of an `optim_*` file: five steps, one an epoch."""
    meta = json.loads(str(arrays["meta"]))
    method = build(arrays)
    check_trained(method, arrays)
    recipe = Sgd(meta["base_lr"], meta["weight_decay"], meta["momentum"], warmup_epochs=meta["warmup"])
    optimiser = recipe.build(method)
    check_decay(optimiser, method, meta)
    parameters = dict(method.named_parameters())
    history: dict[str, list[Tensor]] = {}
    for epoch, (images, labels) in enumerate(zip(arrays["x"], arrays["y"], strict=True)):
        rate = recipe.rate(epoch, 0, 1, meta["total"])
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad()
        loss = F.cross_entropy(method(torch.from_numpy(images)).logits, torch.from_numpy(labels))
        loss.backward()
        optimiser.step()
        history.setdefault("lr", []).append(torch.tensor(rate, dtype=torch.float64))
        history.setdefault("loss", []).append(loss.detach())
        for key in arrays:
            kind, _, theirs = key.partition("/")
            if kind in ("param", "momentum"):
                parameter = parameters[our_name(theirs)]
                value = parameter.detach() if kind == "param" else optimiser.state[parameter]["momentum_buffer"]
                history.setdefault(key, []).append(our_part(theirs, value).clone())
    for key, values in history.items():
        yield key, torch.stack(values)


def schedule(arrays: Arrays) -> Found:
    """The learning rate of every epoch, for each pair of warm-up and total."""
    base = float(arrays["base_lr"])
    for key in arrays:
        match = re.fullmatch(r"cosine/(\d+)_(\d+)", key)
        if match:
            warmup, total = int(match[1]), int(match[2])
            yield (
                key,
                torch.tensor([base * cosine(epoch, warmup, total) for epoch in range(total)], dtype=torch.float64),
            )


def check_trained(method: Method, arrays: Arrays) -> None:
    """Raise if we do not train exactly what the authors train."""
    theirs = {our_name(name) for name in json.loads(str(arrays["trainable"])).splitlines()}
    if theirs != set(method.trained()):
        raise AssertionError(f"trained by one side only: {sorted(theirs ^ set(method.trained()))}")


def check_decay(optimiser: torch.optim.Optimizer, method: Method, meta: dict) -> None:  # type: ignore[type-arg]
    """Raise if a parameter's weight decay is not the authors'."""
    names = {id(value): name for name, value in method.named_parameters()}
    ours = {names[id(p)]: group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    theirs = {our_name(group["name"][0]): group["weight_decay"] for group in meta["groups"]}
    if ours != theirs:
        raise AssertionError(f"weight decay differs: {sorted(set(ours.items()) ^ set(theirs.items()))}")

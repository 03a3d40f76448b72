"""Reading a pre-tuned top-down module under the authors' key names."""

import re
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from src.backbones import read_tensors, tensors_sha256

NAMES = {"linear": "chain", "linear2": "signal"}


def read_pretuned(path: Path, blocks: Iterable[int]) -> tuple[dict[str, Tensor], str]:
    """The tensors of the given blocks' feedback, the task embedding and the channel transform, and their sha256.

    Keys (the authors' vit_top_down.py): `decoders.N.linear.weight`, `decoders.N.linear2.weight`, `prompt`, and
    `top_down_transform` if it was pre-tuned (missing means the identity). The backbone and a classifier in the same
    file are left aside. Raises ValueError for a missing or unknown key.
    """
    tensors, _ = read_tensors(path)
    own = {key.removeprefix("enc."): value for key, value in tensors.items()}
    own = {key: value for key, value in own.items() if re.match(r"decoders\.|prompt|top_down", key)}
    expected = {"prompt": "task_embedding"}
    for block in blocks:
        for theirs, ours in NAMES.items():
            expected[f"decoders.{block}.{theirs}.weight"] = f"feedback.{block}.{ours}.weight"
    missing = sorted(set(expected) - set(own))
    unknown = [
        key for key in own if not re.fullmatch(r"decoders\.\d+\.linear2?\.weight|prompt|top_down_transform", key)
    ]
    if missing or unknown:
        raise ValueError(
            f"method.init: {path} is not a pre-tuned module for this backbone: "
            f"missing {', '.join(missing[:3]) or 'nothing'}, unknown {', '.join(unknown[:3]) or 'nothing'}"
        )
    if "top_down_transform" in own:
        expected["top_down_transform"] = "channel_transform"
    chosen = {
        ours: own[theirs].reshape(-1) if ours == "task_embedding" else own[theirs] for theirs, ours in expected.items()
    }
    return chosen, tensors_sha256(chosen)

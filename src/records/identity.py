"""What changes a run's results, and so its name."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Where things lie, who watches and what computes: none of it changes the results (beyond rounding).
OUTSIDE = {
    "paths", "logger", "callbacks", "launcher", "sweep", "ckpt", "checkpoints", "dry_run", "force", "experiment",
    "debug", "recipe", "backbone", "changed",
}  # fmt: skip
OUTSIDE_TRAINER = {
    "threads", "devices", "num_nodes", "accelerator", "strategy", "_target_", "log_every_n_steps", "profiler",
    "enable_progress_bar", "enable_model_summary",
}  # fmt: skip
OUTSIDE_DATA = {"root", "workers", "archives", "copy", "cache_gb"}


def identity(
    config: Mapping[str, Any], backbone: Mapping[str, Any], data: Mapping[str, Any], init: str | None
) -> dict[str, Any]:
    """The part of a resolved config that changes results, with checksums in the place of paths.

    backbone: checksum of its weights, and what they do not show (heads, image size). data: fingerprint of the data set,
    mean and standard deviation. init: checksum of a pre-tuned module, if any.
    """
    kept: dict[str, Any] = {key: value for key, value in config.items() if key not in OUTSIDE}
    kept["trainer"] = {k: v for k, v in config["trainer"].items() if k not in OUTSIDE_TRAINER}
    kept["data"] = {k: v for k, v in config["data"].items() if k not in OUTSIDE_DATA} | dict(data)
    kept["method"] = dict(config["method"]) | ({"init": init} if init else {})
    kept["preset"] = config["preset"]["name"]
    kept["backbone"] = dict(backbone)
    return kept


def config_hash(identity: Mapping[str, Any]) -> str:
    """sha256 of an identity, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def run_name(method: str, dataset: str, stage: str, seed: int, hashed: str) -> str:
    """The name of a run and of its folder."""
    return f"{method}-{dataset}-{stage}-s{seed}-{hashed[:8]}"

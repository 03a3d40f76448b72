"""From a config to the parts of a run: backbone, data, method, and the record that describes them."""

import copy
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from src.backbones import Backbone
from src.config.build import build
from src.config.check import check_targets, find_target, without_defaults
from src.config.rows import is_own_recipe
from src.data.module import ImageData
from src.methods import Method, UnsupportedBackbone
from src.records import Record, UserError, config_hash, environment, identity, run_name
from src.training.frozen_cache import MARK, why_not
from src.training.module import heads
from src.training.optim import Optim
from src.training.trainer import Trainer, is_started_outside
from src.training.warm import Warm

GIVEN = {
    "data": {"seed"},
    "method": {"backbone", "num_classes", "seed"},
}
KINDS = {"method": Method, "data": ImageData, "optim": Optim, "trainer": Trainer}
STAGES = ("single", "tune", "final")
CHECKPOINTS = ("keep", "running", "none")
MOST = 10_000
"""More threads, devices or parts of a batch than this are a slip of the finger, and would hang the machine."""
CUTS = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "overfit_batches", "fast_dev_run")
STOPS = ("max_steps", "max_time")


@dataclass
class Parts:
    """What a run is made of."""

    backbone: Backbone
    data: ImageData
    method: Method
    record: Record
    not_cached: str | None
    """Why the frozen part is not computed once and then read from disk; None if it is."""


def check_config(config: Mapping[str, Any]) -> None:
    """Check a resolved config before anything is built. Raises UserError."""
    given = dict(GIVEN)
    for name in config.get("logger") or {}:
        given[f"logger.{name}"] = {"folder", "record"}
    check_seed(config["seed"])
    if config["stage"] not in STAGES:
        raise UserError(f"stage is {config['stage']!r}; it is {', '.join(STAGES)}")
    if config["ckpt"] not in ("last", "none", None):
        raise UserError(f"ckpt is {config['ckpt']!r}; it is last (go on where a run stopped) or none (start over)")
    if config.get("checkpoints", "keep") not in CHECKPOINTS:
        raise UserError(f"checkpoints is {config['checkpoints']!r}; it is {', '.join(CHECKPOINTS)}")
    check_targets(config, given)
    for place, kind in KINDS.items():
        target = find_target(config[place]["_target_"])
        if not (isinstance(target, type) and issubclass(target, kind)):
            raise UserError(f"{place}._target_={config[place]['_target_']} is not a {kind.__module__}.{kind.__name__}")
    if not isinstance(config["force"], bool):
        raise UserError(f"force is {config['force']!r}; expected true or false")
    for key in ("threads", "accumulate_grad_batches", "devices"):
        value = config["trainer"].get(key)
        if isinstance(value, int) and not (1 <= value <= MOST or (key == "devices" and value == -1)):
            raise UserError(f"trainer.{key} is {value!r}; give 1 to {MOST:,}")
    epochs = config["trainer"].get("max_epochs")
    if not isinstance(epochs, int) or epochs < 1:
        raise UserError(f"trainer.max_epochs is {epochs!r}; give at least 1")


def check_seed(seed: Any) -> None:
    """Raise UserError for what is no seed."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise UserError(f"seed is {seed!r}; give a whole number that is not negative")


def check_trainer(config: Mapping[str, Any]) -> None:
    """Make a trainer on trial, which takes milliseconds: what Lightning refuses is known before anything is read."""
    build(config["trainer"], "trainer", logger=False)
    nodes = config["trainer"]["num_nodes"]
    if nodes > 1 and not is_started_outside():
        raise UserError(
            f"trainer.num_nodes={nodes} starts nothing on the other machines; start the same command on each, as "
            f"torchrun --nnodes={nodes} --nproc-per-node=<devices> --rdzv-backend=c10d "
            "--rdzv-endpoint=<one machine>:29500 -m src.train ..., or once through SLURM's srun"
        )


def load_inputs(config: Mapping[str, Any], warm: Warm | None = None) -> tuple[Backbone, ImageData]:
    """The backbone and the data set with its lists read; from `warm` what is loaded already. Raises UserError."""
    data = build_data(config)
    if warm is not None:
        warm.share(config, data)
    _ = data.table  # before the weights: a missing folder is the more likely mistake, and found at once
    return build_backbone(config, data, warm), data


def make_parts(config: Mapping[str, Any], warm: Warm | None = None, shared: bool = False) -> Parts:
    """Read the data set's lists, load the backbone, build the method, and describe them. Raises UserError.

    shared: build on the backbone that `warm` keeps, and not on a copy; for what leaves it as it is.
    """
    backbone, data = load_inputs(config, warm)
    if warm is not None and not shared:
        backbone = replace(backbone, model=copy.deepcopy(backbone.model))  # a run may train it
    method = build_method(config, backbone, len(data.table.classes))
    not_cached = why_not(config, data, method)
    if not_cached is not None and data.cache_frozen is True:
        raise UserError(f"data.cache_frozen=true cannot be: {not_cached}")
    record = describe(config, backbone, data, method)
    if not_cached is None:
        record.marks.append(MARK)
    return Parts(backbone, data, method, record, not_cached)


def build_data(config: Mapping[str, Any]) -> ImageData:
    """The data module; nothing is read yet."""
    data: ImageData = build(config["data"], "data", seed=config["seed"])
    return data


def build_backbone(config: Mapping[str, Any], data: ImageData, warm: Warm | None = None) -> Backbone:
    """The backbone, to whose input the data is fitted."""

    def load() -> Backbone:
        loaded: Backbone = build(config["backbone"], "backbone")
        return loaded

    backbone = load() if warm is None else warm.backbone(config, load)
    height, width = backbone.image_size
    if height != width:
        raise UserError(f"backbone.image_size is {height} x {width}; this data is cut to squares, give one side")
    data.fit_backbone(height, backbone.mean, backbone.std)
    return backbone


def build_method(config: Mapping[str, Any], backbone: Backbone, classes: int) -> Method:
    """The method on the backbone, at its seeded start."""
    try:
        method: Method = build(
            config["method"], "method", backbone=backbone.model, num_classes=classes, seed=config["seed"]
        )
    except UnsupportedBackbone as error:
        raise UserError(str(error)) from error
    return method


def describe(config: Mapping[str, Any], backbone: Backbone, data: ImageData, method: Method) -> Record:
    """The record of a run before it has run."""
    table = data.table
    init = getattr(method, "init_sha256", None)
    weights = {"sha256": backbone.sha256, "heads": heads(method), "image_size": list(backbone.image_size)}
    images = {"fingerprint": table.fingerprint, "mean": list(data.mean), "std": list(data.std)}
    options = method_options(config, method)
    resolved = without_defaults({**config, "method": {**config["method"], **options}})
    hashed = config_hash(identity(resolved, weights, images, init))
    optim = {key: value for key, value in config["optim"].items() if key != "_target_"}
    task = config["data"].get("task")
    trained = set(method.trained())
    sizes = {name: parameter.numel() for name, parameter in method.named_parameters()}
    head = sum(size for name, size in sizes.items() if name.startswith("head."))
    return Record(
        name=run_name(
            config["method"]["name"], task or config["data"]["name"], config["stage"], config["seed"], hashed
        ),
        status="failed",
        experiment=config.get("experiment"),
        stage=config["stage"],
        method=config["method"]["name"],
        preset=config["preset"]["name"],
        options=options,
        dataset=config["data"]["name"],
        task=task,
        split={split: len(images.labels) for split, images in table.splits.items()},
        official=table.official,
        fingerprint=table.fingerprint,
        backbone={
            "name": backbone.name,
            "source": backbone.source,
            "part": backbone.part,
            "sha256": backbone.sha256,
            "file_sha256": backbone.file_sha256,
            "image_size": list(backbone.image_size),
        },
        init={"source": config["method"].get("init", "random"), "sha256": init},
        preprocessing=data.preprocessing(),
        seed=config["seed"],
        config_hash=hashed,
        optim=optim,
        epochs=config["trainer"]["max_epochs"],
        batch_size=config["data"]["batch_size"],
        precision=str(config["trainer"]["precision"]) + (" with tf32" if config["trainer"].get("tf32") else ""),
        devices=[],
        threads=torch.get_num_threads(),
        marks=marks(config, backbone, data),
        parameters={
            "trained": sum(size for name, size in sizes.items() if name in trained and not name.startswith("head.")),
            "head": head,
            "total": sum(sizes.values()),
        },
        environment=environment("cpu"),
    )


def method_options(config: Mapping[str, Any], method: Method) -> dict[str, Any]:
    """The method's options as it took them: the block that a negative `first_block` came to, for one."""
    options = {key: value for key, value in config["method"].items() if key not in ("name", "_target_")}
    return options | {
        key: found
        for key, value in options.items()
        if isinstance(value, int | None) and isinstance(found := getattr(method, key, None), int)
    }


def marks(config: Mapping[str, Any], backbone: Backbone, data: ImageData) -> list[str]:
    """What a reader of the number must know, a word or two each."""
    found = list(data.table.marks)
    if is_own_recipe(config, backbone.name):
        found.append("own recipe")
    if config["method"].get("init") == "random":
        found.append("not pre-tuned")
    if config.get("callbacks"):
        found.append("own callback")
    if config.get("debug"):
        found.append("debug")
    if is_partial(config["trainer"]):
        found.append("partial")
    return found


def is_partial(trainer: Mapping[str, Any]) -> bool:
    """Whether the trainer's settings leave out batches, or steps of the schedule. As a float, 1.0 means all of them."""
    batches = [trainer.get(key) for key in CUTS]
    cut = any(value and not (isinstance(value, float) and value == 1.0) for value in batches)
    return cut or any(trainer.get(key) not in (None, -1) for key in STOPS)


def set_threads(config: Mapping[str, Any]) -> None:
    """Set the CPU threads before anything is computed: 1 and 2 threads give different bits."""
    torch.set_num_threads(config["trainer"].get("threads") or default_threads())


@lru_cache(1)
def default_threads() -> int:
    """Torch's own choice for this machine, whatever a run before this one has set."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else torch.get_num_threads()


def flops_per_image(parts: Parts) -> int | None:
    """FLOPs of one training step per image (two a multiply-add), counted by torch without computing anything.

    None for a method that cannot be traced on the meta device.
    """
    from torch.func import functional_call
    from torch.utils.flop_counter import FlopCounterMode

    method, images = parts.method, 2
    height, width = parts.backbone.image_size

    def empty(value: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(value, device="meta").requires_grad_(value.requires_grad)

    state = {name: empty(value) for name, value in [*method.named_parameters(), *method.named_buffers()]}
    noise = {name: torch.empty(images, *draw.shape, device="meta") for name, draw in method.noise().items()}
    pixels = torch.empty(images, 3, height, width, device="meta")
    counter = FlopCounterMode(display=False)
    try:
        with counter:
            functional_call(method, state, (pixels, noise)).logits.sum().backward()
    except (RuntimeError, NotImplementedError):
        return None
    return math.ceil(counter.get_total_flops() / images)


def run_folder(config: Mapping[str, Any], record: Record) -> Path:
    """Where a run leaves what it makes."""
    return Path(config["paths"]["runs"]) / record.name

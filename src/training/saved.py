"""A finished run's model again, from its folder and the backbone's weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.config.saved import load_config
from src.data.module import ImageData
from src.methods import Method
from src.records import UserError
from src.training.module import check_checkpoint, frozen_hashes, trained_state
from src.training.parts import build_backbone, build_data, build_method, check_config
from src.training.trainer import read_checkpoint


@dataclass
class Saved:
    """What a run left: its model with the trained parameters, its data module (nothing read yet), its class names."""

    config: dict[str, Any]
    method: Method
    data: ImageData
    classes: list[str]


def load_saved(folder: Path, arguments: Sequence[str] = ()) -> Saved:
    """Load a run folder; `arguments` replace values of its config, such as `data.root=...` or `backbone.file=...`.

    Raises UserError if the folder is not a run's, if its checkpoint is torn or of other weights than the backbone that
    is found here, and for a class in its config that is not ours.
    """
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} is not a run folder: it has no config.yaml; give run=<paths.runs>/<name>")
    # Who watched the run has no say in what it made.
    config = load_config(folder / "config.yaml", arguments, without=("logger", "callbacks"))
    check_config(config)
    checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    data = build_data(config)
    backbone = build_backbone(config, data)
    classes = list(checkpoint.get("classes", []))
    method = build_method(config, backbone, len(classes))
    check_checkpoint(method, checkpoint, frozen_hashes(method))
    method.load_state_dict(trained_state(checkpoint), strict=False)
    return Saved(config, method.eval(), data, classes)

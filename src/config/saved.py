"""A run's saved config.yaml: data from a stranger until the user says otherwise."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from src.config.check import check_trusted
from src.config.compose import (
    checked_value,
    hydra_ready,
    is_group,
    line,
    parse,
    put_back,
    split_paths,
    typed_targets,
)
from src.records import UserError

PARTS = ("method", "data", "backbone", "optim", "trainer", "preset", "recipe", "paths")
NAMED = ("method", "data", "preset", "recipe")


OF_MULTIRUNS = ("launcher", "sweep", "dry_run")
"""Keys that have no meaning for one run."""


def load_config(path: Path, arguments: Sequence[str] = (), without: Sequence[str] = ()) -> dict[str, Any]:
    """A saved `config.yaml`, with single values replaced by `key=value` arguments.

    without: parts of it that are left out. Raises UserError for a file that is missing or no config, for a class in it
    that is not ours and was not typed again, and for an argument that chooses an option of a group: everything that
    depended on the choice is already written out in the file.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"the config {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict) or not all(isinstance(config.get(part), dict) for part in PARTS):
        raise UserError(f"{path} is not a run's config.yaml")
    if not {"seed", "stage", "ckpt", "force", *PARTS} <= config.keys() or not all("name" in config[p] for p in NAMED):
        raise UserError(f"{path} is not a whole config.yaml; take the one that the run wrote")
    config = {key: value for key, value in config.items() if key not in OF_MULTIRUNS}
    config |= {key: {} for key in without}
    check_trusted(config, {argument.partition("=")[0].lstrip("+") for argument in arguments})
    arguments, paths = split_paths(arguments)
    with hydra_ready():
        base = OmegaConf.create(config)
        values = parse(arguments)
        for override in values:
            if is_group(override) or isinstance(base.get(override.key_or_group), DictConfig):
                raise UserError(
                    f"{line(override)} chooses an option, but {path} has its choices written out; "
                    "start anew with experiment=..."
                )
            checked_value(override, base, typed_targets(values))
            OmegaConf.update(base, override.key_or_group, override.value(), force_add=True)
    resolved = put_back(OmegaConf.to_container(base), paths)
    assert isinstance(resolved, dict)
    return resolved

"""Builds what a config names, by Hydra's instantiate."""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from src.config.check import LABELS, find_target, signature
from src.records import UserError


def build(node: Mapping[str, Any], place: str, **given: Any) -> Any:
    """The object that `node` describes. given: what the program passes on, as far as the target takes it.

    Raises UserError if the target refuses a value (ValueError), naming the place in the config.
    """
    parameters = signature(find_target(node["_target_"]))
    wanted = {name: value for name, value in given.items() if name in parameters or "**" in parameters}
    settings = {key: value for key, value in node.items() if key not in LABELS - {"_target_"} - set(parameters)}
    try:
        # What the program passes on is not config: Hydra would turn a record into a dictionary.
        return instantiate(settings, _partial_=True, _convert_="all")(**wanted)
    except InstantiationException as error:
        raise UserError(f"{place}: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise UserError(f"{place}: {error}") from error

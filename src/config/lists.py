"""Lists of values on a multirun's command line."""

import os

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException

from src.config.compose import hydra_ready, is_path, options
from src.records import UserError

NO_LIST = ("interval", "tag")
"""Words of Hydra's sweep grammar that make no list of values."""
LISTS = "give values with commas, choice(...) or range(...)"


def parse_sweep(argument: str) -> list[str]:
    """The arguments, one value each, that an argument with a list (`seed=42,44`, `range(...)`) stands for.

    Paths may have commas in their names; one is a list where it does not exist itself, and each of its parts does.
    Raises UserError for what makes no list.
    """
    key, _, value = argument.partition("=")
    if is_path(key, value):
        parts = value.split(",")
        places = [os.path.expanduser(place) for place in (value, *parts)]
        several = len(parts) > 1 and not os.path.exists(places[0]) and all(map(os.path.exists, places[1:]))
        return [f"{key}={part}" for part in parts] if several else [argument]
    if not set(",(") & set(value):
        return [argument]
    word = value.partition("(")[0].strip()
    if word in NO_LIST:
        raise UserError(f"the argument {argument!r}: {word}() makes no list of values; {LISTS}")
    try:
        with hydra_ready():
            override = OverridesParser.create().parse_override(argument)
            if not override.is_sweep_override():
                return [argument]
            found = override.value()
            if isinstance(found, Glob):  # Hydra's own looks into no folders
                names = found.filter(options(key))
                if not names:
                    raise UserError(f"the argument {argument!r}: no option of a group {key} is like it; {LISTS}")
                return [f"{key}={name}" for name in names]
            values = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
            return list(dict.fromkeys(values))
    except HydraException as error:
        raise UserError(f"the argument {argument!r} cannot be read: {' '.join(str(error).split())}") from None

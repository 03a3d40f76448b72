"""Checks a resolved config against the signatures of the classes that it names, before anything is built."""

import importlib
import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.records import UserError

LABELS = {"_target_", "name"}
"""Keys that a node may have whatever its target takes; `name` is for records and recipes."""


def find_target(target: str) -> Any:
    """The class or function that a dotted name stands for. Raises UserError if there is none."""
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"_target_ {target} cannot be imported: {error}") from error


def signature(target: Any) -> dict[str, inspect.Parameter]:
    """The named parameters of a class or function; where it passes `**` on, those of its base class too."""
    parameters: dict[str, inspect.Parameter] = {}
    chain = (
        [vars(cls)["__init__"] for cls in target.__mro__ if "__init__" in vars(cls)]
        if inspect.isclass(target)
        else [target]
    )
    for function in chain:
        own = inspect.signature(function).parameters.values()
        for parameter in own:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and parameter.name != "self":
                parameters.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            return parameters
    return {**parameters, "**": inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)}


def accepted(target: str) -> set[str]:
    """Names that a target takes."""
    return set(signature(find_target(target)))


def check_targets(config: Any, given: Mapping[str, set[str]], place: str = "") -> None:
    """Check every node that names a `_target_`: known keys, no missing ones, values of the expected type.

    given: names that the program itself passes to the target at a place. Raises UserError naming the key.
    """
    if isinstance(config, Mapping):
        if "_target_" in config:
            check_node(config, place, given.get(place, set()))
        for key, value in config.items():
            check_targets(value, given, f"{place}.{key}" if place else str(key))
    elif isinstance(config, list):
        for number, value in enumerate(config):
            check_targets(value, given, f"{place}.{number}")


def check_node(node: Mapping[str, Any], place: str, given: set[str]) -> None:
    """Check one node against its target's signature."""
    target = find_target(str(node["_target_"]))
    parameters = signature(target)
    hints = type_hints(target)
    for key, value in node.items():
        if key in LABELS - set(parameters):
            continue
        if key not in parameters and "**" not in parameters:
            raise UserError(
                f"{place}.{key} is not a key of {node['_target_']}, which takes {', '.join(sorted(parameters))}"
            )
        expected = hints.get(key, Any)
        if not fits(value, expected):
            raise UserError(f"{place}.{key} is {value!r}; expected {spell(expected)}")
    for key, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        if required and key not in node and key not in given:
            raise UserError(f"{place}.{key} is missing; {node['_target_']} needs it")


def type_hints(target: Any) -> dict[str, Any]:
    """Annotations of a target's parameters, its base classes' included."""
    hints: dict[str, Any] = {}
    for function in (
        [vars(cls)["__init__"] for cls in reversed(target.__mro__) if "__init__" in vars(cls)]
        if inspect.isclass(target)
        else [target]
    ):
        try:
            hints.update(typing.get_type_hints(function))
        except (NameError, TypeError, AttributeError):
            continue
    return hints


def fits(value: Any, expected: Any) -> bool:
    """Whether a config's value is of an annotated type; what cannot be told counts as fitting."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if expected is None or expected is type(None):
        return value is None
    if expected is bool:
        return isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected in (str, Path):
        return isinstance(value, str)
    if origin in (list, tuple, Sequence) or (inspect.isclass(origin) and issubclass(origin, Sequence)):
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value if arguments)
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    return True


def spell(expected: Any) -> str:
    """A type in words."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    arguments = typing.get_args(expected)
    if typing.get_origin(expected) in (typing.Union, types.UnionType):
        return " or ".join(spell(argument) for argument in arguments)
    if typing.get_origin(expected) is typing.Literal:
        return " or ".join(map(str, arguments))
    if typing.get_origin(expected) in (list, tuple, Sequence):
        return "a list"
    return words.get(expected, str(getattr(expected, "__name__", expected)))


def check_trusted(config: Any, typed: set[str]) -> None:
    """Raise UserError for every `_target_` that is not of this project and was not typed by the user.

    For configs that come from a file: a run folder is data from a stranger, and importing a class runs its module.
    typed: dotted keys that the command line gave.
    """
    strange = [(key, target) for key, target in targets(config) if key not in typed and not is_ours(target)]
    if strange:
        repeat = " ".join(f"{key}={target}" for key, target in strange)
        raise UserError(
            f"the config names {', '.join(target for _, target in strange)}, which is not part of this project and "
            f"would run when imported; if you trust it, repeat {repeat}"
        )


def targets(config: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every `_target_` of a config, those in lists too: (its dotted key, what it names)."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield f"{place}_target_", str(config["_target_"])
        for key, value in config.items():
            yield from targets(value, f"{place}{key}.")
    elif isinstance(config, list):
        for number, value in enumerate(config):
            yield from targets(value, f"{place}{number}.")


FUNCTIONS = {"src.backbones.load", "src.training.loggers.tensorboard", "src.training.loggers.wandb"}
ROOMS = ("src.methods", "src.data", "src.training.optim", "src.training.trainer")


def is_ours(target: str) -> bool:
    """Whether a dotted name is what a config of ours would name: a class defined in the rooms that configs build from,
    not merely reachable through them, or one of the few functions that make a part of a run."""
    if target in FUNCTIONS:
        return True
    module, _, name = target.rpartition(".")
    if not module.startswith(ROOMS):
        return False
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return False
    return inspect.isclass(found) and found.__module__.startswith(ROOMS)


def without_defaults(config: Any) -> Any:
    """The config without what its targets take anyway, so that a default written out means the same as one left out."""
    if isinstance(config, list):
        return [without_defaults(value) for value in config]
    if not isinstance(config, Mapping):
        return config
    kept = {key: without_defaults(value) for key, value in config.items()}
    if "_target_" in config:
        hints = type_hints(find_target(str(config["_target_"])))
        for key, value in kept.items():
            if hints.get(key) is float and isinstance(value, int):
                kept[key] = float(value)  # 1 and 1.0 are one value
        for key, parameter in signature(find_target(str(config["_target_"]))).items():
            default = parameter.default
            same = list(default) if isinstance(default, tuple) else default
            if key in kept and type(kept[key]) is type(same) and kept[key] == same:
                del kept[key]
    return kept

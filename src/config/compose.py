"""From the command line to a resolved config: a plain dictionary in which nothing is left to look up."""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.check import accepted
from src.config.rows import changes, look_up
from src.records import UserError

PROJECT = Path(__file__).resolve().parents[2]
CONF = PROJECT / "conf"
PATH_KEYS = {"root", "file", "folder", "init", "copy", "archives"}
STAND_IN = "a_path_of_the_command_line_{}_"
NO_PATH = {"random", "null", "none", "???"}
SHOWN = 4


def is_path(key: str, value: str) -> bool:
    """Whether an argument is a path, which Hydra's grammar would break at a comma, a bracket or an equals sign."""
    key = key.lstrip("+")
    named = key.startswith("paths.") or ("." in key and key.rpartition(".")[2] in PATH_KEYS)
    return named and value.lower() not in NO_PATH


def split_paths(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Put a stand-in for every path among the arguments: (arguments, absolute path by stand-in).

    A relative path counts from the working folder, `~` is the home folder.
    """
    kept: list[str] = []
    paths: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and is_path(key, value):
            if not value:
                raise UserError(f"{key}= is empty; give a path")
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            stand_in = STAND_IN.format(len(paths))
            paths[stand_in] = os.path.abspath(os.path.expanduser(value))
            argument = f"{key}={stand_in}"
        kept.append(argument)
    return kept, paths


def put_back(node: Any, paths: Mapping[str, str]) -> Any:
    """The config with every stand-in replaced by its path."""
    if isinstance(node, dict):
        return {key: put_back(value, paths) for key, value in node.items()}
    if isinstance(node, list):
        return [put_back(value, paths) for value in node]
    if isinstance(node, str):
        for stand_in, path in paths.items():
            node = node.replace(stand_in, path)
    return node


@contextmanager
def hydra_ready() -> Iterator[None]:
    """Hydra's composition over `conf/`, with our resolvers."""
    OmegaConf.register_new_resolver("project", lambda path: str(PROJECT / path), replace=True)
    for table in ("recipe", "preset"):
        resolver = table_resolver(table)
        OmegaConf.register_new_resolver(table, resolver, replace=True)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def table_resolver(table: str) -> Any:
    """`${recipe:lr}` and `${preset:drop_path}`: the value for the method and data set of the whole config."""
    return lambda key, *, _root_: look_up(_root_, table, key)


def compose_config(arguments: Sequence[str]) -> dict[str, Any]:
    """The resolved config that the arguments (`group=option`, `key=value`) ask for.

    Raises UserError, naming the nearest right ones, for an unknown group, option or key, and for what the grammar
    does not allow.
    """
    arguments, paths = split_paths(arguments)
    with hydra_ready():
        overrides = parse(arguments)
        groups = [o for o in overrides if is_group(o)]
        values = [o for o in overrides if not is_group(o)]
        for override in groups:
            check_option(override)
        chosen = [text for o in groups if (text := choice(o)) is not None]
        base = hydra_compose(chosen)
        lines = chosen + [checked_value(o, base, typed_targets(values)) for o in values]
        config = resolve(hydra_compose(lines))
        config["changed"] = changes(config, resolve_loosely(base))
    resolved = put_back(config, paths)
    assert isinstance(resolved, dict)
    return resolved


def parse(arguments: Sequence[str]) -> list[Override]:
    """Hydra's grammar, one argument at a time, so that the sentence can name the wrong one."""
    parser = OverridesParser.create()
    parsed = []
    for argument in arguments:
        try:
            override = parser.parse_override(argument)
        except HydraException as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"the argument {argument!r} cannot be read ({reason}); write key=value, and quote a value "
                f"with commas, brackets or spaces as key='\"...\"'"
            ) from None
        if override.is_sweep_override():
            raise UserError(f"the argument {argument!r} asks for several runs; start them with -m, or give one value")
        parsed.append(override)
    return parsed


def line(override: Override) -> str:
    """The argument that was parsed, as it was typed."""
    assert override.input_line is not None
    return override.input_line


def loader() -> Any:
    """Hydra's index of the config groups and their options."""
    return GlobalHydra.instance().config_loader()


def is_group(override: Override) -> bool:
    """Whether the argument chooses an option of a group."""
    key = override.key_or_group
    return "." not in key and (bool(loader().get_group_options(key)) or bool(loader().list_groups(key)))


def options(group: str) -> list[str]:
    """Every option of a group, those in its folders too."""
    here = list(loader().get_group_options(group))
    return here + [f"{sub}/{name}" for sub in loader().list_groups(group) for name in options(f"{group}/{sub}")]


def check_option(override: Override) -> None:
    """Raise UserError for an option that its group does not have."""
    group, value = override.key_or_group, override.value()
    known = options(group)
    for option in value if isinstance(value, list) else [value]:
        if option is not None and option not in known and not override.is_delete():
            near = nearest(str(option), known)
            raise UserError(
                f"{group}={option} is not an option; {group} is {'one of ' if len(near) > 1 else ''}{', '.join(near)}"
            )


def choice(override: Override) -> str | None:
    """A group's argument as Hydra wants it, which knows no `group=null`: no logger, or nothing to choose."""
    if override.value() is None and not override.is_delete():
        if override.key_or_group == "logger":
            return "logger=[csv]"
        if override.key_or_group in ("experiment", "debug"):
            return None
        raise UserError(f"{override.key_or_group}=null: a run cannot do without; choose one of its options")
    return line(override)


def checked_value(override: Override, base: DictConfig, typed: Mapping[str, str]) -> str:
    """The argument as Hydra wants it; a key that only its target's signature knows is added.

    typed: every `_target_` on the command line, which may take other keys than the config's own.
    """
    text, key = line(override), override.key_or_group
    if override.is_add() or override.is_force_add() or override.is_delete():
        return text
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(base, parent, throw_on_resolution_failure=False) if parent else base
    if isinstance(node, DictConfig) and name in map(str, node):
        return text
    target = typed.get(parent) or (
        str(node["_target_"]) if isinstance(node, DictConfig) and "_target_" in node else None
    )
    if target is None:
        raise UserError(f"there is no key {key}; near it are {', '.join(nearest(key, sorted(keys(base))))}")
    known = accepted(target)
    if name in known or "**" in known:
        return f"++{text}"
    near = nearest(name, sorted(known | set(map(str, node or ()))))
    raise UserError(f"{key} is not a key of {target}; near it are {', '.join(f'{parent}.{n}' for n in near)}")


def typed_targets(values: Sequence[Override]) -> dict[str, str]:
    """The `_target_`s that the arguments give, by the key of the node they are for."""
    ends = "._target_"
    return {o.key_or_group.removesuffix(ends): str(o.value()) for o in values if o.key_or_group.endswith(ends)}


def keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a config, groups included, tables of recipes and presets left out."""
    if not isinstance(node, DictConfig):
        return
    for name in map(str, node):
        yield f"{prefix}{name}"
        if f"{prefix}{name}" not in ("recipe", "preset"):
            yield from keys(node._get_node(name), f"{prefix}{name}.")


def nearest(name: str, known: Sequence[str]) -> list[str]:
    """The known names most like `name`, or all of a short list, or the first of a long one."""
    close = difflib.get_close_matches(name, known, n=SHOWN, cutoff=0.5)
    return close or list(known if len(known) <= 2 * SHOWN else known[:SHOWN])


def hydra_compose(lines: list[str]) -> DictConfig:
    """Hydra's compose, whose errors end in one sentence."""
    try:
        return compose("train", overrides=lines)
    except (HydraException, OmegaConfBaseException) as error:
        raise user_error(error) from error


def resolve(config: DictConfig) -> Any:
    """The config with every interpolation looked up."""
    try:
        for key in config.paths:
            # From the environment or conf/local: `~` is the home folder, a relative path counts from the project's.
            if STAND_IN.split("{")[0] not in str(config.paths[key]):
                config.paths[key] = str(PROJECT / os.path.expanduser(str(config.paths[key])))
        missing = list(missing_keys(OmegaConf.to_container(config, resolve=False)))
        if missing:
            raise UserError(f"{', '.join(missing)} must be given")
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise user_error(error) from error


def resolve_loosely(config: DictConfig) -> dict[str, Any]:
    """The config's parts with what can be looked up without the user's values; {} for a part that cannot."""
    parts: dict[str, Any] = {}
    for key in map(str, config):
        try:
            node = config[key]
            parts[key] = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        except OmegaConfBaseException:
            parts[key] = {}
    return parts


def missing_keys(node: Any, place: str = "") -> Iterator[str]:
    """Dotted keys of what a config leaves for the user to say."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from missing_keys(value, f"{place}.{key}" if place else str(key))
    elif node == "???":
        yield place


def user_error(error: BaseException) -> UserError:
    """The UserError that Hydra wrapped, or the error's own words in one line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return UserError(" ".join(str(error).split()))

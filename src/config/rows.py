"""Tables of choices by method and data set: recipes and presets, looked up by the keys that need them."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.records import UserError

Config = Mapping[str, Any]


def matches(row: Config, config: Config) -> bool:
    """Whether a table's row speaks of this method, data set and preset; what it does not name, it does not ask."""
    asked = {"method": config["method"]["name"], "data": config["data"]["name"], "preset": config["preset"]["name"]}
    for key, value in asked.items():
        wanted = row.get(key)
        if wanted is not None and value not in ([wanted] if isinstance(wanted, str) else wanted):
            return False
    return True


def find_row(config: Config, table: str, key: str) -> Config | None:
    """The row that decides `key`: the last one that matches and sets it."""
    rows = [row for row in config[table]["rows"] if key in row["set"] and matches(row, config)]
    return rows[-1] if rows else None


def look_up(config: Config, table: str, key: str) -> Any:
    """The value of `key` in `config.<table>`. Raises UserError listing the pairs that have one."""
    row = find_row(config, table, key)
    if row is not None:
        return row["set"][key]
    method, data = config["method"]["name"], config["data"]["name"]
    name = config[table]["name"]
    pairs = sorted(
        {
            f"{m} on {d}"
            for r in config[table]["rows"]
            if key in r["set"]
            for m in named(r, "method")
            for d in named(r, "data")
        }
    )
    raise UserError(
        f"the {table} {name} has no {key} for {method} on {data}; it has one for {', '.join(pairs) or 'none'}; "
        f"choose another {table}=... or give the value on the command line"
    )


def named(row: Config, key: str) -> list[str]:
    """What a row names under `key`, as a list."""
    value = row.get(key, "any")
    return [value] if isinstance(value, str) else list(value)


RECIPE_KEYS = {
    "lr": "optim.lr",
    "weight_decay": "optim.weight_decay",
    "momentum": "optim.momentum",
    "max_epochs": "trainer.max_epochs",
    "batch_size": "data.batch_size",
    "prompts": "method.prompts",
    "prompt_dropout": "method.prompt_dropout",
}
"""Where each value of a recipe is used."""


PUBLISHED_OPTIM = "src.training.optim.Sgd"
"""What every published value was for."""


def changes(config: Config, base: Config) -> list[str]:
    """Dotted keys that were given on the command line, may change results, and are not what the choices say anyway."""
    found = []
    for part, apart in BESIDE_RESULTS.items():
        mine, theirs = config.get(part) or {}, base.get(part) or {}
        found += [f"{part}.{key}" for key in mine if key not in apart and mine[key] != theirs.get(key)]
    return found


CACHE = {"cache_frozen", "cache_gb"}
BESIDE_RESULTS = {
    "method": {"init"},  # has a mark of its own
    "optim": set[str](),
    "data": {"root", "workers", "archives", "copy", "subset", "name", "task", "stage", "official"} | CACHE,
    "trainer": {"threads", "devices", "num_nodes", "accelerator", "strategy"},
    "backbone": {"file", "folder", "part", "name", "source", "image_size"},  # the backbone is looked at by itself
}
"""Parts of a config that make a recipe, and keys in them that do not."""


SEARCHED = {"lr": "sweep_lr", "weight_decay": "sweep_weight_decay"}
"""Values that a recipe may publish a grid of."""


def in_grid(config: Config, key: str) -> bool:
    """Whether a value is of the grid that was published for this method and data set."""
    row = find_row(config, "recipe", SEARCHED[key])
    if row is None or row.get("own", False):
        return False
    return config["optim"][key] in grid(config, key, row["set"][SEARCHED[key]])


def grid(config: Config, key: str, values: Sequence[float]) -> list[float]:
    """A grid's values as they are used: rates are published for batches of 256, and go with the batch."""
    return [value * config["data"]["batch_size"] / 256 for value in values] if key == "lr" else list(values)


def is_own_recipe(config: Config, backbone: str) -> bool:
    """Whether a run departs from what was published: an unpublished row, a value of the user's, another backbone."""
    if backbone not in config["recipe"]["backbones"] or config["backbone"].get("source") == "random":
        return True
    searched = {key for key in SEARCHED if in_grid(config, key)}
    changed = set(config.get("changed") or ()) - {RECIPE_KEYS[key] for key in searched}
    if changed or config["optim"].get("_target_") != PUBLISHED_OPTIM:
        return True
    for key, place in RECIPE_KEYS.items():
        if key in searched:
            continue
        node: Any = config
        for part in place.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        row = find_row(config, "recipe", key)
        if row is None and node is not None:
            return True
        if row is not None and node is not None and (row.get("own", False) or row["set"][key] != node):
            return True
    return False

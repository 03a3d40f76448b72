"""What a multirun consists of: its runs and its searches, all expanded and checked before the first run starts."""

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from src.config.arguments import chosen
from src.config.build import build
from src.config.check import check_targets
from src.config.compose import compose_config
from src.config.lists import parse_sweep
from src.config.rows import grid
from src.data.vtab.tasks import TASKS
from src.records import UserError
from src.training.linear_grid import trains_at_once
from src.training.parts import check_config, check_seed

TUNING_SEED = 0
LEAVES = ("data.task", "seed", "optim.lr", "optim.weight_decay")
"""Keys that runs which share everything else differ in. As a rule nothing else in a config follows from them."""
OF_ALL = ("launcher", "dry_run", "paths.runs", "sweep.")
"""What is the same for all runs of a multirun."""
Values = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One run of a multirun: its arguments, by which src.train would do the same, and its resolved config."""

    arguments: tuple[str, ...]
    config: Mapping[str, Any]
    together: tuple["Job", ...] = ()
    """The cells of its grid, itself included, where these may be trained at once; see linear_grid."""
    linked: bool = False
    """Whether other values follow from those of leaves, such as a random backbone's from the seed."""
    plain: Mapping[str, Any] = field(default_factory=dict)
    """The values of `optim` that its choices say by themselves, by which a given one is known to differ."""
    group: str = ""
    """What it shares with the runs that differ from it in seed and cell alone."""

    def __str__(self) -> str:
        return " ".join(self.arguments)

    @property
    def label(self) -> str:
        """What tells it from its like, in a few words."""
        data, optim = self.config["data"], self.config["optim"]
        name = f"{self.config['method']['name']}-{data.get('task') or data['name']}"
        stage = f"{name} {self.config['stage']}"
        return f"{stage} lr {optim['lr']:g} wd {optim['weight_decay']:g} seed {self.config['seed']}"


@dataclass
class Search:
    """One experiment on one data set: a grid of cells of which one is chosen, and the final runs with it.

    cells: of the grid, each a run with stage=tune; none where learning rate and weight decay were given. final: the
    arguments and the config of the final runs, which still lack the chosen values and the seed.
    """

    name: str
    cells: list[Job]
    final: Job
    seeds: list[int]

    def finals(self, chosen: Mapping[str, float]) -> list[Job]:
        """The final runs with the values chosen: a run a seed."""
        return [derived(self.final, {**chosen, "seed": seed}) for seed in self.seeds]


@dataclass
class Plan:
    """Everything that a multirun is to do.

    settings: a config as it was asked for, for what concerns all: launcher, folders. runs: those of no search.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    runs: list[Job] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.runs) + sum(len(search.cells) + len(search.seeds) for search in self.searches)


def plan(arguments: Sequence[str]) -> Plan:
    """Every combination of the values that the arguments list (`seed=42,44`, `choice(...)`, `range(...)`).

    An experiment with a `sweep` grid becomes a search, unless `stage` is given. `data.task=all` stands for every task.
    Composed once for each combination of choices; single values are put into copies. Raises UserError, before anything
    starts, for a combination that cannot be, and for a multirun without a run.
    """
    axes = read_axes(arguments)
    leaves = {key: axes.pop(key) for key in LEAVES if key in axes}
    whole = Plan()
    for choice in itertools.product(*axes.values()):
        # A value of each leaf, to find what is wrong with the rest.
        base = compose_config([*choice, *(axis[0] for axis in leaves.values())])
        check_config(base)
        whole.settings = whole.settings or base
        plain = base["optim"]
        if any(key.startswith("optim.") for key in leaves):
            plain = compose_config([*choice, *(axis[0] for key, axis in leaves.items() if "optim" not in key)])["optim"]
        if base["sweep"]["lr"] is not None and not any(word.startswith("stage=") for word in choice):
            whole.searches += searches(choice, base, leaves, plain)
        elif any(word.startswith("sweep.") for word in choice):
            raise UserError(
                "sweep.lr, sweep.weight_decay and sweep.seeds make a search, which needs sweep.lr and no "
                "stage; for runs without one give lists of optim.lr, optim.weight_decay and seed"
            )
        else:
            whole.runs += runs(Job(own(choice), base, plain=plain), leaves)
    check(whole)
    return whole


def read_axes(arguments: Sequence[str]) -> dict[str, list[str]]:
    """The arguments with one value each, by their key; of two with the same key the last one counts."""
    axes: dict[str, list[str]] = {}
    for argument in (word for one in arguments for word in chosen(one)):
        key = argument.partition("=")[0]
        key = key.lstrip("+") if key.lstrip("+") in LEAVES else key
        if key == "config":
            raise UserError("config=<file> starts one saved run; it takes no -m and no dry_run")
        axes[key] = every_task(parse_sweep(argument))
        if len(axes[key]) > 1 and key.startswith(OF_ALL):
            raise UserError(f"{key} is for the whole multirun; give it one value, a list of numbers as {key}='[1,2]'")
    return axes


def own(words: Sequence[str]) -> tuple[str, ...]:
    """The arguments of one run alone: without what is for the multirun."""
    return tuple(word for word in words if not word.startswith(("launcher", "dry_run=", "sweep")))


def every_task(axis: list[str]) -> list[str]:
    """An axis with `all` tasks written out."""
    if axis and axis[0].partition("=")[0] == "data.task":
        names = [name for word in axis for name in (TASKS if word == "data.task=all" else [word[10:]])]
        return [f"data.task={name}" for name in dict.fromkeys(names)]
    return axis


def runs(base: Job, leaves: Mapping[str, list[str]]) -> Iterator[Job]:
    """A run for every combination of the leaves' values."""
    if not leaves:
        yield base
        return
    combinations = [
        {word.partition("=")[0]: value_of(word) for word in words} for words in itertools.product(*leaves.values())
    ]
    if len(combinations) > 1:
        base = with_link(base, combinations[-1])
    for values in combinations:
        yield derived(base, values)


def searches(
    choice: Sequence[str], base: Mapping[str, Any], leaves: Mapping[str, list[str]], plain: Mapping[str, Any]
) -> Iterator[Search]:
    """A search for every task, or one where there is no list of tasks."""

    def listed(leaf: str, key: str) -> list[Any]:
        given = [value_of(word) for word in leaves.get(leaf, [])]
        return given or grid(base, key, check_list(base["sweep"][key], f"sweep.{key}"))

    values = {f"optim.{key}": listed(f"optim.{key}", key) for key in ("lr", "weight_decay")}
    seeds = listed("seed", "seeds")
    first = [axis[0] for axis in leaves.values()]
    stages = {}
    for stage, checkpoints in (("tune", "none"), ("final", "running")):
        words = [*choice, f"stage={stage}"]
        if not any(word.startswith("checkpoints=") for word in choice):
            words.append(f"checkpoints={checkpoints}")
        stages[stage] = Job(own(words), compose_config([*words, *first]), plain=plain)
    cells = [dict(zip(values, cell, strict=True)) for cell in itertools.product(*values.values())]
    if cells:
        task = {"data.task": value_of(leaves["data.task"][-1])} if "data.task" in leaves else {}
        # Values that are none of the base's, as far as can be.
        last = {**task, **cells[-1], "seed": base["seed"] + 1}
        stages = {stage: with_link(job, last) for stage, job in stages.items()}
    for word in leaves.get("data.task", [""]):
        task = {"data.task": value_of(word)} if word else {}
        tune = [derived(stages["tune"], {**task, **cell, "seed": TUNING_SEED}) for cell in cells]
        final = derived(stages["final"], task)
        name = f"{final.config['method']['name']}-{final.config['data'].get('task') or final.config['data']['name']}"
        if len(cells) == 1:  # nothing to choose
            final = derived(final, cells[0])
        if len(tune) > 1 and trains_at_once([job.config for job in tune]):
            tune = [replace(job, together=tuple(tune)) for job in tune]
        yield Search(name, tune if len(cells) > 1 else [], final, seeds)


def check_list(value: Any, key: str) -> list[Any]:
    """A grid's values, each once. Raises UserError for none, and for what is no number."""
    example = f"give a list, such as {key}={'[42,44]' if key.endswith('seeds') else '[0.1,0.01]'}"
    if not isinstance(value, list) or not value:
        raise UserError(f"{key} is {value!r}, which leaves nothing to run; {example}")
    for one in value:
        if isinstance(one, bool) or not isinstance(one, int | float):
            raise UserError(f"{key} has {one!r}, which is no number; {example}")
    return list(dict.fromkeys(value))


def value_of(word: str) -> Any:
    """The value of an argument `key=value` of a leaf: a number where it is one."""
    text = word.partition("=")[2]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def with_link(job: Job, values: Values) -> Job:
    """The run, with a note of whether it must be composed anew for other values: found by composing once."""
    trial = derived(job, values)
    composed = compose_config(trial.arguments)
    beside = ("changed", "launcher", "sweep", "dry_run")
    same = all(composed[key] == trial.config[key] for key in composed if key not in beside)
    return replace(job, linked=not same)


def derived(job: Job, values: Values) -> Job:
    """A run with other values of leaves; composed anew only where other values follow from them."""
    kept = [word for word in job.arguments if word.partition("=")[0] not in values]
    arguments = (*kept, *(f"{key}={value}" for key, value in values.items()))
    apart = (*(f"{key}=" for key in LEAVES if key != "data.task"), "stage=", "checkpoints=")
    group = " ".join(word for word in arguments if not word.startswith(apart))
    if job.linked:
        return replace(job, arguments=arguments, config=compose_config(arguments), group=group)
    config = copy.deepcopy(dict(job.config))
    changed = [key for key in config["changed"] if key not in values]
    for key, value in values.items():
        part, _, name = key.rpartition(".")
        if part == "optim" and job.plain.get(name) != value:
            changed.append(key)
        (config[part] if part else config)[name] = value
    config["changed"] = changed
    return replace(job, arguments=arguments, config=config, group=group)


def check(whole: Plan) -> None:
    """Raise UserError for an empty multirun, and for a cell whose optimiser or stage cannot be."""
    jobs = [*whole.runs, *(job for search in whole.searches for job in [*search.cells, search.final])]
    if not jobs:
        raise UserError("the multirun is empty: a list of values without a value")
    for seed in {job.config["seed"] for job in jobs} | {seed for search in whole.searches for seed in search.seeds}:
        check_seed(seed)
    seen = set()
    for job in jobs:
        optim = repr(job.config["optim"])
        if optim not in seen:
            seen.add(optim)
            check_targets({"optim": job.config["optim"]}, {})
            build(job.config["optim"], "optim")
        task = job.config["data"].get("task")
        if job.config["data"]["name"] == "vtab" and str(task) not in TASKS:
            raise UserError(f"data.task={task} is none of VTAB's tasks; give some of {', '.join(TASKS)}, or all")

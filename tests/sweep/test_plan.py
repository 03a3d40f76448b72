"""What a multirun consists of, before anything starts."""

from pathlib import Path

import pytest

from src.config.compose import compose_config
from src.config.rows import is_own_recipe
from src.data.vtab.tasks import TASKS
from src.records import UserError
from src.sweep.plan import Plan, plan

DEIT = "deit_base_patch16_224.fb_in1k"
GRID = ["sweep.lr=[1.0,0.5]", "sweep.weight_decay=[0.01,0.0]", "sweep.seeds=[42,44]"]


def scenes(*more: str) -> Plan:
    return plan(["experiment=demo/linear", "data=scenes", *more])


@pytest.mark.parametrize(
    ("method", "cells", "jobs"),
    [("toast", 28, 627), ("toast_lite", 28, 627), ("toast_late", 28, 627), ("lora", 28, 627), ("vpt", 40, 855),
     ("linear", 40, 855), ("finetune", 16, 399)],
)  # fmt: skip
def test_the_papers_protocol_has_its_numbers(method: str, cells: int, jobs: int) -> None:
    whole = plan([f"experiment=vtab/{method}", "data.task=all"])
    assert len(whole) == jobs and not whole.runs
    assert [search.name for search in whole.searches] == [f"{method}-{task}" for task in TASKS]
    for search in whole.searches:
        assert len(search.cells) == cells
        assert {(job.config["stage"], job.config["data"]["stage"], job.config["seed"]) for job in search.cells} == {
            ("tune", "tune", 0)
        }
        assert search.seeds == [42, 44, 82, 100, 800]
        finals = search.finals({"optim.lr": 0.5, "optim.weight_decay": 0.0})
        assert {job.config["stage"] for job in finals} == {job.config["data"]["stage"] for job in finals} == {"final"}
        assert [job.config["seed"] for job in finals] == search.seeds


def test_the_grid_goes_with_the_batch_and_is_no_own_recipe() -> None:
    (search,) = plan(["experiment=vtab/toast", "data.task=dtd"]).searches
    assert sorted({job.config["optim"]["lr"] for job in search.cells}) == [
        rate * 32 / 256 for rate in (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
    ]
    assert not any(is_own_recipe(job.config, DEIT) for job in search.cells)
    (search,) = plan(["experiment=vtab/toast", "data.task=dtd", "data.batch_size=64"]).searches
    assert max(job.config["optim"]["lr"] for job in search.cells) == 64 / 256
    (search,) = plan(["experiment=vtab/linear", "data.task=dtd"]).searches
    assert all(is_own_recipe(job.config, DEIT) for job in search.cells)  # the authors have no grid for it
    (search,) = plan(["experiment=vtab/toast", "data.task=dtd", "optim.lr=0.07,0.08"]).searches
    assert all(is_own_recipe(job.config, DEIT) for job in search.cells)


def test_a_cell_is_what_its_arguments_compose_to() -> None:
    for search in plan(["experiment=vtab/lora", "data.task=dtd,svhn", *GRID]).searches:
        finals = search.finals({"optim.lr": 0.07, "optim.weight_decay": 0.02})
        for job in (search.cells[0], search.cells[-1], *finals):
            composed = compose_config(job.arguments)
            assert sorted(composed.pop("changed")) == sorted(job.config.pop("changed"))  # type: ignore[attr-defined]
            sweep = {"lr": [1.0, 0.5], "weight_decay": [0.01, 0.0], "seeds": [42, 44]}
            assert {**composed, "sweep": sweep} == job.config


def test_a_given_rate_replaces_the_grid_and_a_single_cell_needs_no_search() -> None:
    (search,) = plan(["experiment=vtab/toast", "data.task=dtd", "optim.lr=0.05,0.02"]).searches
    assert {job.config["optim"]["lr"] for job in search.cells} == {0.05, 0.02} and len(search.cells) == 8
    words = ["experiment=vtab/toast", "data.task=dtd", "optim.lr=0.05", "optim.weight_decay=0.001", "seed=1,2,3"]
    (search,) = plan(words).searches
    assert search.cells == [] and len(search.finals({})) == 3
    assert {job.config["optim"]["lr"] for job in search.finals({})} == {0.05}
    whole = plan(["experiment=vtab/toast", "data.task=dtd,svhn", "stage=tune", "seed=range(3)"])
    assert len(whole.runs) == 6 and not whole.searches


def test_lists_of_every_kind_make_every_combination() -> None:
    whole = scenes(
        "optim.lr=0.1,0.2", "seed=range(1,4)", "optim.weight_decay=choice(0.1,0.0)", "method.drop_path=0,0.1"
    )
    assert len(whole) == 24 == len({str(job) for job in whole.runs})
    assert len(plan(["experiment=glob(demo/toast*)"])) == 3
    both = plan(["experiment=fgvc/toast,fgvc/lora", "data=fgvc/cub,fgvc/dogs", "seed=42,44"])
    assert len(both) == 8
    # Each pair takes its own recipe.
    rates = {(job.config["method"]["name"], job.config["data"]["name"]): job.config["optim"]["lr"] for job in both.runs}
    assert rates[("toast", "cub")] == 0.03 and rates[("lora", "cub")] == 0.01 and rates[("toast", "dogs")] == 0.02


def test_values_given_twice_are_one_run_and_of_two_arguments_the_last_counts() -> None:
    assert len(scenes("seed=1,1,2")) == 2
    assert [job.config["seed"] for job in scenes("seed=1,2", "seed=3").runs] == [3]
    (search,) = plan(["experiment=vtab/lora", "data.task=dtd", "sweep.lr=[0.1,0.1]", "sweep.seeds=[42,42]"]).searches
    assert (len(search.cells), search.seeds) == (4, [42])
    assert len(plan(["experiment=vtab/lora", "data.task=all,dtd"])) == 627


@pytest.mark.parametrize("seeds", ["[42,44]", "[44,42]"])
def test_a_random_backbone_follows_its_runs_seed_in_whatever_order(seeds: str) -> None:
    words = ["experiment=vtab/lora", "data.task=dtd", "backbone=random_small", "sweep.lr=[0.1]", f"sweep.seeds={seeds}"]
    (search,) = plan(words).searches
    for job in [*search.cells, *search.finals({"optim.lr": 0.1, "optim.weight_decay": 0.0})]:
        assert job.config["backbone"]["seed"] == job.config["seed"], str(job)


def test_a_rate_given_with_pluses_is_the_rate_too() -> None:
    (search,) = plan(["experiment=vtab/lora", "data.task=dtd", "++optim.lr=0.3"]).searches
    assert {job.config["optim"]["lr"] for job in search.cells} == {0.3}


def test_a_published_rate_is_no_change_wherever_it_stands_in_a_list() -> None:
    for rates in ("0.01,0.03", "0.03,0.01"):
        found = plan(["experiment=fgvc/toast", f"optim.lr={rates}"]).runs
        assert {job.config["optim"]["lr"]: job.config["changed"] for job in found} == {0.03: [], 0.01: ["optim.lr"]}


def test_paths_are_a_list_where_each_of_them_is_there(tmp_path: Path) -> None:
    for name in ("a", "b", "c,d"):
        (tmp_path / name).mkdir()
    words = ["experiment=folder/linear", f"data.root={tmp_path}/a,{tmp_path}/b"]
    assert [Path(job.config["data"]["root"]).name for job in plan(words).runs] == ["a", "b"]
    assert len(plan(["experiment=folder/linear", f"data.root={tmp_path}/c,d"])) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["seed=choice()"], "empty|cannot be read"),
        (["optim.lrr=0.1,0.2"], r"near it are .*optim\.lr"),
        (["optim.lr=0.1,-0.2"], "lr"),
        (["optim.lr=0.1,fast"], "optim.lr is 'fast'; expected a number"),
        (["seed=1.5,2"], "seed is 1.5"),
        (["sweep.lr=[]", "sweep.weight_decay=[0]", "sweep.seeds=[1]"], r"sweep.lr is \[\], which leaves nothing"),
        (["sweep.lr=[0.1]", "sweep.weight_decay=[-1]", "sweep.seeds=[1]"], "weight_decay"),
        (["method=toast,toats"], "toats is not an option"),
        (["method.rank=4,abc", "method=lora"], "method.rank is 'abc'"),
        (["seed=1,-1"], "seed is -1"),
        (["trainer.max_epochs=1,0"], "trainer.max_epochs is 0"),
        (["sweep.lr=[abc]", "sweep.weight_decay=[0]", "sweep.seeds=[1]"], "sweep.lr has 'abc', which is no number"),
        (["sweep.lr=[0.1]", "sweep.weight_decay=[0]", "sweep.seeds=[1.5]"], "seed is 1.5"),
        (["sweep.seeds=[1,2]"], "make a search, which needs sweep.lr"),
        (["launcher=inline,ray"], "launcher is for the whole multirun"),
        (["optim.lr=interval(0,1)"], r"interval\(\) makes no list of values"),
        (["optim.lr=glob(*)"], "no option of a group optim.lr"),
        (["config=saved.yaml"], "starts one saved run"),
        (["chosen=nowhere.yaml"], "is not what a search has chosen"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        scenes(*words)


def test_a_misspelt_task_among_others() -> None:
    with pytest.raises(UserError, match=r"data\.task=dtt is none of VTAB's tasks"):
        plan(["experiment=vtab/linear", "data.task=dtd,dtt"])

"""From arguments to a config: what wins, what is refused, and what the sentence names."""

import itertools
import re
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from src.config.compose import CONF, compose_config, split_paths
from src.config.rows import RECIPE_KEYS, SEARCHED, is_own_recipe
from src.config.saved import OF_MULTIRUNS, load_config
from src.records import UserError
from src.training.parts import check_config

PUBLISHED = "deit_base_patch16_224.fb_in1k"


def options(group: str) -> list[str]:
    return sorted(p.relative_to(CONF / group).with_suffix("").as_posix() for p in (CONF / group).rglob("*.yaml"))


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes_and_passes_the_check(experiment: str) -> None:
    task = ["data.task=dtd"] if experiment.startswith("vtab/") else []
    config = compose_config([f"experiment={experiment}", *task])
    assert config["experiment"] == experiment
    check_config(config)


@pytest.mark.parametrize("group", ["preset", "backbone", "trainer", "logger", "optim", "debug", "data", "method"])
def test_every_option_composes_with_an_experiment_or_says_why_not(group: str) -> None:
    for option, experiment in itertools.product(options(group), ("fgvc/toast", "demo/vpt")):
        try:
            compose_config([f"experiment={experiment}", f"{group}={option}"])
        except UserError as error:
            assert "recipe" in str(error) or "must be given" in str(error)


def test_the_recipe_belongs_to_the_pair() -> None:
    def lr(*arguments: str) -> float:
        return float(compose_config(list(arguments))["optim"]["lr"])

    assert lr("experiment=fgvc/toast") == 0.03
    assert lr("experiment=fgvc/toast", "preset=paper") == 0.01
    assert lr("experiment=fgvc/toast", "method=finetune") == 0.003
    assert lr("method=lora", "experiment=fgvc/toast") == 0.01
    assert lr("experiment=fgvc/toast", "optim.lr=0.5") == 0.5
    with pytest.raises(UserError, match=r"no lr for toast on scenes.*toast on cub"):
        compose_config(["experiment=fgvc/toast", "data=scenes"])


def test_presets_set_what_the_paper_and_the_code_do_differently() -> None:
    def method(name: str, preset: str) -> dict[str, object]:
        found = compose_config([f"experiment=fgvc/{name}", f"preset={preset}"])["method"]
        assert isinstance(found, dict)
        return {key: found.get(key) for key in ("drop_path", "train_channel_transform", "value_biases")}

    def choices(drop_path: float, transform: bool | None, biases: int | None) -> dict[str, object]:
        return {"drop_path": drop_path, "train_channel_transform": transform, "value_biases": biases}

    assert method("toast", "official") == choices(0.1, False, 2)
    assert method("toast_late", "official") == choices(0.1, False, 2)
    assert method("toast_lite", "official") == choices(0.1, True, 2)
    assert method("toast", "paper") == choices(0.0, True, 1)
    assert method("linear", "official") == choices(0.1, None, None)
    assert method("linear", "paper") == choices(0.0, None, None)
    assert method("finetune", "paper") == choices(0.1, None, None)


@pytest.mark.parametrize(
    ("arguments", "own"),
    [
        (["experiment=fgvc/toast"], False),
        (["experiment=fgvc/toast", "optim.lr=0.03"], False),
        (["experiment=fgvc/toast", "optim.lr=0.02"], True),
        (["experiment=fgvc/toast", "trainer.max_epochs=20"], True),
        (["experiment=fgvc/toast_late"], True),
        (["experiment=fgvc/linear"], True),
        (["experiment=fgvc/vpt"], False),
        (["experiment=fgvc/vpt", "method.prompts=5"], True),
        (["experiment=fgvc/toast", "method.drop_path=0.5"], True),
        (["experiment=fgvc/toast", "method.drop_path=0.1"], False),
        (["experiment=fgvc/toast", "optim.schedule=step"], True),
        (["experiment=fgvc/toast", "optim=adamw"], True),
        (["experiment=fgvc/toast", "data.normalisation=backbone"], True),
        (["experiment=fgvc/toast", "trainer.gradient_clip_val=1.0"], True),
        (["experiment=fgvc/toast", "backbone.source=random"], True),
        (["experiment=fgvc/toast", "trainer=ddp", "data.workers=3", "data.root=/x", "trainer.threads=1"], False),
    ],
)
def test_what_is_unpublished_is_an_own_recipe(arguments: list[str], own: bool) -> None:
    assert is_own_recipe(compose_config(arguments), PUBLISHED) is own
    assert is_own_recipe(compose_config(arguments), "another_backbone")


def test_every_key_that_a_yaml_takes_from_the_recipe_counts_for_the_mark() -> None:
    taken = {key for path in CONF.rglob("*.yaml") for key in re.findall(r"\$\{recipe:(\w+)\}", path.read_text())}
    assert taken == set(RECIPE_KEYS) | set(SEARCHED.values())


def test_debug_wins_over_the_experiment_and_the_command_line_over_both() -> None:
    for arguments in itertools.permutations(["experiment=fgvc/toast", "debug=fast"]):
        config = compose_config(list(arguments))
        assert config["trainer"]["max_epochs"] == 1
        assert config["paths"]["runs"].endswith("debug")
    assert compose_config(["debug=fast", "experiment=fgvc/toast", "trainer.max_epochs=3"])["trainer"]["max_epochs"] == 3


def test_loggers_one_two_or_none() -> None:
    assert set(compose_config(["logger=wandb"])["logger"]) == {"wandb"}
    assert set(compose_config(["logger=[wandb,tensorboard]"])["logger"]) == {"wandb", "tensorboard"}
    assert not compose_config(["logger=null"]).get("logger")


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("experiment=fgvc/tost", "fgvc/toast"),
        ("metod=toast", "method"),
        ("method.rnak=3", "method.rank"),
        ("optim.learning_rate=1", "optim"),
        ("trainer.max_epoch=3", "trainer.max_epochs"),
        ("data.workrs=1", "data.workers"),
        ("optim.lr=[1", "cannot be read"),
        ("optim.lr=0.1,0.2", "one value"),
        ("seed", "key=value"),
    ],
)
def test_a_wrong_argument_is_answered_with_the_nearest_right_one(argument: str, named: str) -> None:
    with pytest.raises(UserError) as caught:
        compose_config([argument])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("seed=-1", "seed"),
        ("seed=1.5", "seed"),
        ("stage=final2", "stage"),
        ("method.rank=four", "method.rank is 'four'"),
        ("data.subset=maybe", "true or false"),
        ("data.batch_size=3.5", "a whole number"),
        ("trainer.max_epochs=0", "max_epochs"),
        ("optim.lr=null", "optim.lr is None; expected a number"),
        ("method._target_=src.methods.Tost", "cannot be imported"),
        ("ckpt=best", "ckpt"),
    ],
)
def test_a_wrong_value_is_answered_with_what_was_expected(argument: str, named: str) -> None:
    with pytest.raises(UserError) as caught:
        check_config(compose_config(["experiment=fgvc/toast", argument]))
    assert named in str(caught.value)


def test_a_key_of_the_signature_needs_no_plus() -> None:
    config = compose_config(["trainer.gradient_clip_val=0.5", "method.train_backbone=true"])
    assert config["trainer"]["gradient_clip_val"] == 0.5
    check_config(config)


AWKWARD = ["/a b/c,d=e[1]{x}/ü'\"$ {y}", "rel/ative, path", "~/x=y", "/tmp/${paths.data}", "/x/(1)", "random"]


@pytest.mark.parametrize("path", AWKWARD)
def test_paths_may_have_any_letters(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    expected = {"rel/ative, path": str(tmp_path / "rel/ative, path"), "~/x=y": "/home/me/x=y"}.get(path, path)
    config = compose_config([f"data.root={path}", f"paths.runs={path}", f"method.init={path}"])
    if path != "random":
        assert config["data"]["root"] == expected
        assert config["paths"]["runs"] == expected
    assert config["method"]["init"] == expected


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
@settings(max_examples=200, deadline=None)
def test_no_path_reaches_hydras_grammar(name: str) -> None:
    arguments, paths = split_paths([f"data.root=/{name}"])
    assert arguments == [f"data.root={next(iter(paths))}"]
    assert next(iter(paths)).isidentifier()


def test_data_is_found_under_paths_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert compose_config([f"paths.data={tmp_path}"])["data"]["root"] == f"{tmp_path}/CUB_200_2011"
    monkeypatch.setenv("TOAST_DATA", "/from/the/environment")
    assert compose_config([])["data"]["root"] == "/from/the/environment/CUB_200_2011"
    monkeypatch.setenv("TOAST_DATA", "~/sets")
    monkeypatch.setenv("HOME", "/home/me")
    assert compose_config([])["data"]["root"] == "/home/me/sets/CUB_200_2011"
    with pytest.raises(UserError, match="empty"):
        compose_config(["paths.runs="])


def test_a_local_default_of_ones_own_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf" / "local").mkdir(exist_ok=True)
    (tmp_path / "conf" / "local" / "default.yaml").write_text("paths: {data: /datasets}")
    monkeypatch.setattr("src.config.compose.CONF", tmp_path / "conf")
    assert compose_config([])["data"]["root"] == "/datasets/CUB_200_2011"
    assert compose_config(["paths.data=/mine"])["data"]["root"] == "/mine/CUB_200_2011"


def test_a_saved_config_is_the_same_config(tmp_path: Path) -> None:
    config = compose_config(["experiment=fgvc/toast_lite", "data.root=/a, b", "seed=44"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    own = {key: value for key, value in config.items() if key not in OF_MULTIRUNS}
    assert load_config(tmp_path / "config.yaml") == own
    changed = load_config(tmp_path / "config.yaml", ["optim.lr=0.5", "data.root=/c,d"])
    assert (changed["optim"]["lr"], changed["data"]["root"]) == (0.5, "/c,d")
    with pytest.raises(UserError, match="written out"):
        load_config(tmp_path / "config.yaml", ["method=lora"])
    with pytest.raises(UserError, match=r"near it are .*method\.rank"):
        load_config(tmp_path / "config.yaml", ["method.rnak=3"])
    for label in ("experiment=fgvc/lora", "debug=fast"):
        with pytest.raises(UserError, match="written out"):
            load_config(tmp_path / "config.yaml", [label])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in config.items() if k != "seed"}))
    with pytest.raises(UserError, match="not a whole"):
        load_config(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("[not, a, config]")
    with pytest.raises(UserError, match=r"not a run's config\.yaml"):
        load_config(tmp_path / "config.yaml")

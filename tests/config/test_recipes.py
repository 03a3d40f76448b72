"""The published hyperparameters, cell by cell, as the authors' read-me, configs and the paper's appendix have them."""

from typing import Any

import pytest

from src.config.compose import compose_config
from src.config.rows import find_row, look_up

SETS = ("cub", "nabirds", "flowers", "dogs", "cars")
LR = {
    ("toast", "official"): (0.03, 0.01, 0.01, 0.02, 0.02),
    ("toast_lite", "official"): (0.03, 0.01, 0.01, 0.02, 0.02),
    ("toast_late", "official"): (0.03, 0.01, 0.01, 0.02, 0.02),
    **{(method, "paper"): (0.01,) * 5 for method in ("toast", "toast_lite", "toast_late")},
    **{(method, preset): (0.01,) * 5 for method in ("lora", "vpt") for preset in ("official", "paper")},
    **{("finetune", preset): (0.003,) * 5 for preset in ("official", "paper")},
    **{("linear", preset): (0.1,) * 5 for preset in ("official", "paper")},
}
WEIGHT_DECAY = (0.0005, 0.01, 0.0001, 0.0001, 0.0001)
UNPUBLISHED = {"linear", "toast_lite", "toast_late"}


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    return compose_config(["experiment=fgvc/toast"])


@pytest.mark.parametrize(("method", "preset"), LR)
def test_fgvc(method: str, preset: str, composed: dict[str, Any]) -> None:
    for name, lr, weight_decay in zip(SETS, LR[method, preset], WEIGHT_DECAY, strict=True):
        config = composed | {"method": {"name": method}, "data": {"name": name}, "preset": {"name": preset}}
        found = {key: look_up(config, "recipe", key) for key in ("lr", "weight_decay", "max_epochs", "batch_size")}
        assert found == {"lr": lr, "weight_decay": weight_decay, "max_epochs": 100, "batch_size": 32}
        row = find_row(config, "recipe", "lr")
        assert row is not None
        assert row.get("own", False) is (method in UNPUBLISHED)
        if method == "vpt":
            assert (look_up(config, "recipe", "prompts"), look_up(config, "recipe", "prompt_dropout")) == (100, 0.0)


@pytest.mark.parametrize("name", SETS)
def test_the_data_of_a_set_composes_with_its_recipe(name: str) -> None:
    config = compose_config(["experiment=fgvc/toast", f"data=fgvc/{name}"])
    assert config["data"]["name"] == name
    assert config["optim"]["lr"] == LR["toast", "official"][SETS.index(name)]


@pytest.mark.parametrize("kind", ["token", "channel"])
def test_an_ablation_is_toast_without_one_selection(kind: str, composed: dict[str, Any]) -> None:
    config = compose_config([f"experiment=ablation/no_{kind}_selection"])
    assert config["method"] == composed["method"] | {f"{kind}_selection": False}
    assert config["optim"] == composed["optim"]

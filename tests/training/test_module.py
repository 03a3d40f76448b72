"""Noise, schedule, optimiser and tally by themselves."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.data.batches import Batch
from src.methods import Draw, Linear, Lora, Toast
from src.records import UserError
from src.training.module import Tally
from src.training.noise import draw_noise, uniform
from src.training.optim import AdamW, Sgd, cosine
from tests.methods.conftest import make_backbone

EXAMPLES = torch.arange(200)


def test_noise_is_uniform_and_its_factors_keep_the_mean() -> None:
    numbers = uniform(0, "drop_path", 0, EXAMPLES, 500)
    assert 0 <= float(numbers.min()) < 1e-3 < 1 - 1e-3 < float(numbers.max()) < 1
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(numbers.std()) == pytest.approx(12**-0.5, abs=0.005)
    assert abs(float(torch.corrcoef(numbers[:20]).fill_diagonal_(0).abs().max())) < 0.2
    keep = torch.tensor([1.0, 0.9, 0.5], dtype=torch.float64)
    factors = draw_noise({"drop_path": Draw((2, 3), keep)}, 0, 0, torch.arange(4000))["drop_path"]
    assert factors.shape == (4000, 2, 3)
    torch.testing.assert_close(factors.mean(dim=0), torch.ones(2, 3), atol=0.05, rtol=0)
    assert set(factors[..., 2].unique().tolist()) == {0.0, 2.0}
    assert bool((factors[..., 0] == 1).all())


@given(st.permutations(range(12)), st.integers(0, 3), st.integers(0, 3))
def test_noise_of_an_example_knows_nothing_of_its_batch(order: list[int], seed: int, epoch: int) -> None:
    whole = uniform(seed, "x", epoch, torch.arange(12), 7)
    assert torch.equal(uniform(seed, "x", epoch, torch.tensor(order), 7), whole[order])
    assert not torch.equal(uniform(seed, "x", epoch + 1, torch.arange(12), 7), whole)
    assert not torch.equal(uniform(seed, "y", epoch, torch.arange(12), 7), whole)


def test_noise_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = uniform(1, "x", 2, EXAMPLES, 30)
    monkeypatch.setattr("src.training.noise.CHUNK", 64)
    assert torch.equal(uniform(1, "x", 2, EXAMPLES, 30), whole)


@pytest.mark.parametrize(("epochs", "warmup"), [(100, 10), (20, 2), (1, 0), (9, 0)])
def test_the_first_epoch_runs_at_zero_and_the_rate_peaks_after_the_warm_up(epochs: int, warmup: int) -> None:
    optim = Sgd(0.03, 0)
    rates = [optim.rate(epoch, 0, 5, epochs) for epoch in range(epochs)]
    assert rates[warmup] == pytest.approx(0.03)
    assert rates[0] == (0.0 if warmup else 0.03)
    assert all(rate == optim.rate(epoch, 4, 5, epochs) for epoch, rate in enumerate(rates))


def test_by_step_the_factor_is_the_same_at_whole_epochs() -> None:
    by_step, by_epoch = Sgd(0.03, 0, schedule="step"), Sgd(0.03, 0)
    for epoch in range(20):
        assert by_step.rate(epoch, 0, 7, 20) == by_epoch.rate(epoch, 0, 7, 20)
    assert by_step.rate(0, 3, 7, 20) == pytest.approx(0.03 * 3 / 14)
    assert cosine(5, 10, 10) == 0.5


def test_what_decays() -> None:
    def undecayed(method: torch.nn.Module, optim: Sgd | AdamW) -> set[str]:
        names = {id(value): name for name, value in method.named_parameters()}
        groups = optim.build(method).param_groups  # type: ignore[arg-type]
        return {names[id(p)] for group in groups if group["weight_decay"] == 0 for p in group["params"]}

    assert undecayed(Lora(make_backbone(), 4), Sgd(0.1, 0.5)) == {"head.bias"}
    assert undecayed(Toast(make_backbone(), 4), Sgd(0.1, 0.5)) == {"head.bias"}
    toast = Toast(make_backbone(), 4, decay_task_embedding=False)
    assert undecayed(toast, AdamW(0.1, 0.5)) == {"head.bias", "task_embedding"}


@pytest.mark.parametrize(
    "wrong", [{"lr": -0.1}, {"weight_decay": -1}, {"momentum": -1}, {"warmup_epochs": -1}, {"lr": float("nan")}]
)
def test_a_negative_number_is_a_sentence(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"optim.{next(iter(wrong))} is .*not negative"):
        Sgd(**({"lr": 0.1, "weight_decay": 0.1} | wrong))  # type: ignore[arg-type]


def test_the_tally_counts_what_counts_in_any_precision() -> None:
    tally = Tally().to(torch.bfloat16)
    logits = torch.eye(3)[torch.tensor([0, 1, 2, 0])]
    for _ in range(500):
        batch = Batch(
            torch.zeros(4, 3, 1, 1), torch.tensor([0, 1, 1, 1]), torch.arange(4), torch.tensor([1.0, 1, 1, 0]), 3
        )
        tally.update(torch.tensor([1.0, 1, 1, 1e9]), logits, batch)
    assert tally.compute() == {"loss": 1.0, "accuracy": 1000 / 1500, "images": 1500}


def test_heads_start_alike_whatever_the_method() -> None:
    methods = [Linear(make_backbone(), 4, seed=3), Toast(make_backbone(), 4, seed=3), Lora(make_backbone(), 4, seed=3)]
    assert all(torch.equal(method.head.weight, methods[0].head.weight) for method in methods)
    assert not torch.equal(Linear(make_backbone(), 4, seed=4).head.weight, methods[0].head.weight)
    torch.testing.assert_close(methods[0].head.bias, torch.full((4,), -4.595), atol=1e-3, rtol=0)

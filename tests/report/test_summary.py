"""The tables at the end of a multirun: seeds together, variants apart, both averages, in the terminal and as csv."""

import csv
import io
import math

import pytest
from rich.console import Console

from src.records import Record
from src.report.summary import as_csv, rows, summary

ACCURACY = {"dtd": 0.4, "cifar100": 0.6, "eurosat": 0.9, "clevr_count": 0.3}
"""Two natural tasks, one specialized, one structured."""


def record(task: str, seed: int, drop_path: float, accuracy: float | None) -> Record:
    """A final run of TOAST; one without accuracy diverged."""
    return Record(
        name=f"toast-{task}-final-s{seed}-{drop_path}", status="diverged" if accuracy is None else "finished",
        experiment="vtab/toast", stage="final", method="toast", preset="official", options={"drop_path": drop_path},
        dataset="vtab", task=task, split={"train": 1000}, official=True, fingerprint=task, backbone={"name": "vit"},
        init={}, preprocessing={}, seed=seed, config_hash=f"{task}{seed}{drop_path}", batch_size=32, threads=1,
        optim={"lr": 0.1, "weight_decay": 0.0}, epochs=100, precision="32-true", devices=[], marks=["frozen cache"],
        metrics={} if accuracy is None else {"test/accuracy": accuracy},
    )  # fmt: skip


def table(records: list[Record]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(rows(records)))))


def test_seeds_are_one_row_and_a_diverged_one_is_not_in_its_mean() -> None:
    (row,) = table([record("dtd", seed, 0.0, value) for seed, value in ((44, 0.5), (42, 0.3), (82, None))])
    assert float(row["test_accuracy"]) == pytest.approx(0.4)
    assert float(row["test_accuracy_std"]) == pytest.approx(math.sqrt(0.02))
    assert (row["n"], row["diverged"], row["seeds"]) == ("2", "1", "44 42 82")


def test_each_variant_has_both_averages() -> None:
    records = [
        record(task, seed, drop_path, accuracy + gain + (seed - 43) / 10)
        for drop_path, gain in ((0.0, 0.0), (0.1, 0.05))
        for task, accuracy in ACCURACY.items()
        for seed in (42, 44)
    ]
    found = {(row["data"], row["differs_in"]): row for row in table(records)}
    assert len(found) == 2 * (4 + 2)
    for drop_path, gain in (("drop_path=0.0", 0.0), ("drop_path=0.1", 0.05)):
        groups = float(found["mean of groups, 4 tasks", drop_path]["test_accuracy"])
        tasks = float(found["mean of tasks, 4 tasks", drop_path]["test_accuracy"])
        assert groups == pytest.approx((0.5 + 0.9 + 0.3) / 3 + gain)
        assert tasks == pytest.approx(0.55 + gain)


def test_variants_of_a_search_are_told_apart_by_what_was_asked_for_and_not_by_what_was_chosen() -> None:
    records, chosen = [], {}
    for drop_path in (0.0, 0.1):
        for task, accuracy in ACCURACY.items():
            one = record(task, 42, drop_path, accuracy)
            one.optim = {"lr": 0.1 if task == "dtd" else drop_path + 1, "weight_decay": drop_path}
            records.append(one)
            chosen[one.name] = one
    found = {(row["data"], row["differs_in"]) for row in csv.DictReader(io.StringIO(as_csv(rows(records, chosen))))}
    kinds = [*ACCURACY, "mean of groups, 4 tasks", "mean of tasks, 4 tasks"]
    assert found == {(kind, differs) for kind in kinds for differs in ("drop_path=0.0", "drop_path=0.1")}


@pytest.mark.parametrize("width", [60, 160])
def test_no_figure_is_cut_however_narrow(width: int) -> None:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(summary(rows([record("dtd", 42, drop_path, 0.1234 + drop_path) for drop_path in (0.0, 0.1)])))
    said = console.export_text()
    assert " 12.3 " in said and " 22.3 " in said

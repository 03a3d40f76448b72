"""The folders of the paper's tables: their commands compose, their numbers are the paper's and add up."""

import csv
import itertools
import re
import shlex
from decimal import Decimal
from pathlib import Path
from statistics import mean

import pytest

from src.data.vtab.tasks import TASKS
from src.report.averages import averages
from src.sweep.plan import plan

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
FOLDERS = sorted(folder.name for folder in EXPERIMENTS.iterdir())
COLUMNS = ["table", "method", "backbone", "pretrain", "dataset", "metric", "value", "unit", "note"]
DATA = ["CUB", "NABirds", "Flowers", "Dogs", "Cars"]
COMMAND = "python -m src.train -m "
VTAB = ("table03_vtab", "table12_vtab_lite")
SECTION = "## Known inconsistencies of the paper\n"
Row = dict[str, str]


def commands(folder: str) -> list[tuple[list[str], int]]:
    """Every command in a folder's read-me: its arguments, and the number of runs that the text after it states."""
    text = (EXPERIMENTS / folder / "README.md").read_text()
    blocks = re.findall(r"^```\n(.*?)\n```\n\n(\S+ runs)?", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == text.count("\n```\n") / 2
    assert all(block.startswith(COMMAND) and "\n" not in block and runs for block, runs in blocks), blocks
    return [(shlex.split(block.removeprefix(COMMAND)), int(runs.split()[0])) for block, runs in blocks]


def rows(folder: str) -> list[Row]:
    """The lines of a folder's paper.csv."""
    with (EXPERIMENTS / folder / "paper.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def inconsistencies(folder: str) -> set[tuple[str, ...]]:
    """What the read-me lists: method, value's name, and how it is printed in this table and elsewhere."""
    section = (EXPERIMENTS / folder / "README.md").read_text().partition(SECTION)[2]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    return {(method, value, here, elsewhere.split()[0]) for method, value, here, elsewhere in lines[2:]}


def cells(folder: str) -> dict[tuple[str, ...], Row]:
    """A table's accuracies by what they are of; an average over FGVC is one, whatever the table calls it."""
    return {
        (row["method"], folder in VTAB, row["backbone"], row["pretrain"], row["dataset"].removeprefix("FGVC ")): row
        for row in rows(folder)
        if row["metric"] == "top1"
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_command_composes_and_is_as_many_runs_as_the_text_says(folder: str) -> None:
    for arguments, runs in commands(folder):
        planned = plan(arguments)
        assert len(planned) == runs, arguments
        for job in [*planned.runs, *(search.final for search in planned.searches)]:
            assert job.config["trainer"]["max_epochs"] == 100 and job.config["data"]["batch_size"] == 32
            assert job.config["recipe"]["name"] == ("vtab" if folder in VTAB else "fgvc")
            assert job.config["preset"]["name"] == "official"


def test_linear_probing_is_searched_over_the_grid_without_the_test_split() -> None:
    rates, decays, factor = [50, 25, 10, 5, 2.5, 1.0, 0.5, 0.25, 0.1, 0.05], [0.01, 0.001, 0.0001, 0.0], 32 / 256
    (search,) = [arguments for arguments, _ in commands("table02_fgvc") if "stage=tune" in arguments]
    asked = {key: values.split(",") for key, _, values in (argument.partition("=") for argument in search)}
    assert [float(rate) for rate in asked["optim.lr"]] == [rate * factor for rate in rates]
    assert [float(decay) for decay in asked["optim.weight_decay"]] == decays
    assert asked["experiment"] == ["fgvc/linear"] and asked["seed"] == ["0"] and len(asked["data"]) == 5


@pytest.mark.parametrize("folder", FOLDERS)
def test_published_values_are_numbers(folder: str) -> None:
    table = rows(folder)
    assert list(table[0]) == COLUMNS
    assert {row["table"] for row in table} == {str(int(folder[5:7]))}
    for row in table:
        if row["metric"] == "tuned_params":
            assert re.fullmatch(r"\d+(\.\d)?M", row["value"]) and row["unit"] == "parameters", row
        else:
            assert row["metric"] == "top1" and row["unit"] == "%" and 0 < float(row["value"]) < 100, row


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder not in ("table08_ablations", *VTAB)])
def test_averages_are_those_of_their_five_numbers(folder: str) -> None:
    table = cells(folder)
    averages = {key: row for key, row in table.items() if key[-1] == "Average"}
    assert len(averages) * 6 == len(table)
    for key, row in averages.items():
        exact = mean(Decimal(table[(*key[:-1], name)]["value"]) for name in DATA)
        assert abs(exact - Decimal(row["value"])) <= Decimal("0.05"), (key, exact)


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder not in VTAB])
def test_the_readme_lists_what_the_paper_prints_twice_and_differently(folder: str) -> None:
    noted = {
        (method, name, row["value"], other[0])
        for (method, *_, name), row in cells(folder).items()
        if (other := re.findall(r"prints? (\d+\.\d)", row["note"]))
    }
    assert noted == inconsistencies(folder)


def test_no_other_value_differs_between_the_tables() -> None:
    found = set()
    for one, other in itertools.permutations(FOLDERS, 2):
        mine, theirs = cells(one), cells(other)
        for key in mine.keys() & theirs.keys():
            if mine[key]["value"] != theirs[key]["value"]:
                found.add((one, key[0], key[-1], mine[key]["value"], theirs[key]["value"]))
    # Table 6, which the other inconsistencies lie in, has no folder.
    assert found == {
        ("table02_fgvc", "TOAST", "Cars", "84.9", "84.5"),
        ("table11_toast_lite", "TOAST", "Cars", "84.5", "84.9"),
    }
    assert all(difference[1:] in inconsistencies(difference[0]) for difference in found)


def test_vtab_averages_are_the_mean_of_the_group_means_but_for_two() -> None:
    table = cells("table03_vtab")
    printed_ones = {key: row for key, row in table.items() if key[-1] == "Average"}
    assert len(printed_ones) == 8 and len(table) == 8 * 20
    found = set()
    for key, row in printed_ones.items():
        values = [float(other["value"]) for place, other in table.items() if place[:-1] == key[:-1] and place != key]
        both, printed = averages(dict(zip(TASKS, values, strict=True))), float(row["value"])
        exact = both["mean of groups"]
        assert abs(both["mean of tasks"] - printed) > 2
        assert abs(exact - printed) < 0.1
        if abs(exact - printed) > 0.05:
            found.add((key[0], f"Average, {key[3]}", row["value"], f"{exact:.2f}"))
    assert found == inconsistencies("table03_vtab") and len(found) == 2


def test_vtab_lite_lists_the_parameters_that_do_not_fit() -> None:
    counted = {"Fine-tune": 85_798_656, "VPT": 921_600, "LoRA": 147_456, "TOAST": 14_156_544, "TOAST-Lite": 738_048}
    found = set()
    for row in rows("table12_vtab_lite"):
        if row["metric"] == "tuned_params":
            millions = counted[row["method"]] / 1e6
            digits = 1 if "." in row["value"] else 0
            if f"{millions:.{digits}f}M" != row["value"]:
                found.add((row["method"], "tuned parameters", row["value"], f"{millions:.2f}M"))
    assert found == inconsistencies("table12_vtab_lite")

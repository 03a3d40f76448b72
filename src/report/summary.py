"""The tables at the end of a multirun, in the terminal and as csv."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from rich.table import Column, Table

from src.data.vtab.tasks import TASKS
from src.records import Record
from src.report.averages import averages

OWN = ("name", "seed", "config_hash", "metrics", "cost", "environment", "devices", "error", "status", "threads")
"""Fields in which runs of the same settings differ."""
SHOWN = ("experiment", "method", "dataset", "task", "optim.lr", "optim.weight_decay")
COLUMNS = (
    "experiment", "method", "data", "backbone", "lr", "weight_decay", "differs_in", "val_accuracy", "test_accuracy",
    "test_accuracy_std", "n", "seeds", "diverged", "chosen_cell", "chosen_val_accuracy", "marks",
)  # fmt: skip


@dataclass
class Row:
    """Runs that differ in nothing but their seed. chosen: the cell of a grid that their settings come from."""

    records: list[Record]
    differs: str = ""
    chosen: Record | None = None

    @property
    def first(self) -> Record:
        """One of them."""
        return self.records[0]

    @property
    def marks(self) -> list[str]:
        """What to know of them."""
        return [*self.first.marks, *([] if self.first.official else ["not official"])]

    @property
    def n(self) -> int:
        """How many runs the means are of."""
        return sum(record.status == "finished" for record in self.records)

    def values(self, metric: str) -> list[float]:
        """A metric of those that have it; a diverged run has none."""
        return [value for record in self.records if (value := record.metrics.get(metric)) is not None]


def rows(records: Sequence[Record], chosen: Mapping[str, Record] | None = None) -> list[Row]:
    """Records of the same settings together, in the order in which each came first.

    chosen: by a run's name, the cell that its settings come from. Where two rows would read alike, `differs` names
    what tells them apart.
    """
    found: dict[str, Row] = {}
    for record in records:
        same = json.dumps({key: value for key, value in vars(record).items() if key not in OWN}, default=str)
        found.setdefault(same, Row([], chosen=(chosen or {}).get(record.name))).records.append(record)
    alike: dict[tuple[Any, ...], list[Row]] = {}
    for row in found.values():
        settings = flat(vars(row.first))
        shown = SHOWN if row.chosen is None else SHOWN[:-2]  # a chosen rate is an outcome
        alike.setdefault(tuple(settings.get(key) for key in shown), []).append(row)
    for twins in alike.values():
        if len(twins) > 1:
            name_differences(twins)
    return list(found.values())


def name_differences(twins: list[Row]) -> None:
    """Say in each row which settings it does not share with the others."""
    settings = [flat({key: value for key, value in vars(row.first).items() if key not in OWN}) for row in twins]
    outcomes = SHOWN[-2:] if all(row.chosen for row in twins) else ()
    keys = [key for key in settings[0] if key not in outcomes and len({str(one.get(key)) for one in settings}) > 1]
    plain = [key for key in keys if not key.startswith(("fingerprint", "split", "parameters", "marks"))] or keys
    for row, one in zip(twins, settings, strict=True):
        row.differs = ", ".join(f"{key.rpartition('.')[2]}={one.get(key)}" for key in plain[:3])


def flat(node: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """A mapping of mappings with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{place}{key}.")
        else:
            found[f"{place}{key}"] = value
    return found


def summary(rows: Sequence[Row]) -> Table:
    """A row of the table a row; then VTAB's averages of every method that has more than one task."""
    differing = any(row.differs for row in rows)
    apart = ["apart by"] if differing else []
    whole = [Column(name, no_wrap=True) for name in ("n", "val", "test")]
    table = Table("method", "data", "lr", "weight decay", *apart, *whole, "marks")
    for row in rows:
        first = row.first
        table.add_row(
            first.method,
            first.task or first.dataset,
            f"{first.optim['lr']:g}",
            f"{first.optim['weight_decay']:g}",
            *([row.differs] if differing else []),
            str(row.n),
            spread(row, "val/accuracy") or (row.chosen and spread(Row([row.chosen]), "val/accuracy")) or "",
            spread(row, "test/accuracy"),
            ", ".join(row.marks),
        )
    for average in averages_of(rows):
        for name, value in average.means.items():
            tasks = f"{name}, {average.tasks} tasks"
            around = [average.differs] if differing else []
            table.add_row(average.first.method, tasks, "", "", *around, "", "", f"{100 * value:.1f}", "")
    return table


@dataclass
class Average:
    """Both averages of a method over VTAB's tasks. first: one of its runs. differs: what tells it from its like."""

    first: Record
    differs: str
    tasks: int
    means: dict[str, float]


def averages_of(rows: Sequence[Row]) -> list[Average]:
    """Of each method and its variants, where every row of it is a task of its own and several have been tested."""
    found: dict[tuple[str, str | None, str], list[Row]] = {}
    for row in rows:
        if row.first.task in TASKS:
            found.setdefault((row.first.method, row.first.experiment, row.differs), []).append(row)
    averaged = []
    for (_, _, differs), mine in found.items():
        tested = {str(row.first.task): mean(values) for row in mine if (values := row.values("test/accuracy"))}
        if len(tested) > 1 and len({row.first.task for row in mine}) == len(mine):
            averaged.append(Average(mine[0].first, differs, len(tested), averages(tested)))
    return averaged


def spread(row: Row, metric: str) -> str:
    """Mean and standard deviation over seeds in per cent; diverged runs are counted."""
    values = row.values(metric)
    diverged = sum(record.status == "diverged" for record in row.records)
    said = f", {diverged} diverged" if diverged else ""
    if not values:
        return said.removeprefix(", ")
    around = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{around}{said}"


def as_csv(rows: Sequence[Row]) -> str:
    """The rows as csv; accuracies are fractions, the standard deviation is over seeds (n - 1)."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in rows:
        first, tested, validated = row.first, row.values("test/accuracy"), row.values("val/accuracy")
        table.writerow([
            first.experiment or "", first.method, first.task or first.dataset, first.backbone["name"],
            first.optim["lr"], first.optim["weight_decay"], row.differs,
            mean(validated) if validated else "", mean(tested) if tested else "",
            stdev(tested) if len(tested) > 1 else "", row.n,
            " ".join(str(record.seed) for record in row.records),
            sum(record.status == "diverged" for record in row.records),
            row.chosen.name if row.chosen else "",
            row.chosen.metrics.get("val/accuracy", "") if row.chosen else "", "; ".join(row.marks),
        ])  # fmt: skip
    for average in averages_of(rows):
        for name, value in average.means.items():
            first = average.first
            known = {
                "experiment": first.experiment or "", "method": first.method, "data": f"{name}, {average.tasks} tasks",
                "backbone": first.backbone["name"], "differs_in": average.differs, "test_accuracy": value,
            }  # fmt: skip
            table.writerow([known.get(column, "") for column in COLUMNS])
    return text.getvalue()

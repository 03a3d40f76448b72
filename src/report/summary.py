"""The table at the end of a multirun."""

from collections.abc import Sequence
from statistics import mean, stdev

from rich.table import Table

from src.records import Record

OWN = ("name", "seed", "config_hash", "metrics", "cost", "environment", "devices", "error", "status", "experiment")
"""Fields in which runs of the same settings differ."""


def summary(records: Sequence[Record]) -> Table:
    """A row for the runs that differ in nothing but their seed: accuracies, mean and standard deviation over seeds."""
    table = Table("method", "data", "lr", "weight decay", "seeds", "val accuracy", "test accuracy", "marks")
    for group in groups(records):
        first = group[0]
        table.add_row(
            first.method,
            first.task or first.dataset,
            f"{first.optim['lr']:g}",
            f"{first.optim['weight_decay']:g}",
            ", ".join(str(record.seed) for record in group),
            spread(group, "val/accuracy"),
            spread(group, "test/accuracy"),
            ", ".join(first.marks),
        )
    return table


def groups(records: Sequence[Record]) -> list[list[Record]]:
    """Records of the same settings together, in the order in which each came first."""
    found: dict[str, list[Record]] = {}
    for record in records:
        same = vars(record) | dict.fromkeys(OWN)
        found.setdefault(repr(same), []).append(record)
    return list(found.values())


def spread(records: Sequence[Record], metric: str) -> str:
    """Mean and standard deviation in per cent; a diverged run has no accuracy and is counted."""
    values = [value for record in records if (value := record.metrics.get(metric)) is not None]
    diverged = sum(record.status == "diverged" for record in records)
    said = f", {diverged} diverged" if diverged else ""
    if not values:
        return said.removeprefix(", ")
    around = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{around}{said}"

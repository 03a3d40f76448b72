"""VTAB-1k's two averages over tasks."""

from collections.abc import Mapping
from statistics import mean

from src.data.vtab.tasks import GROUPS, TASKS

AVERAGES = {
    "mean of groups": "the mean of the means of natural, specialized and structured tasks: the paper's average",
    "mean of tasks": "the mean of the tasks themselves, in which structured tasks weigh most",
}


def averages(accuracy: Mapping[str, float]) -> dict[str, float]:
    """Both averages of accuracies by task; a group without any task is left out of the mean of groups."""
    groups = [[value for task, value in accuracy.items() if TASKS[task].group == group] for group in GROUPS]
    return {
        "mean of groups": mean(mean(values) for values in groups if values),
        "mean of tasks": mean(accuracy.values()),
    }

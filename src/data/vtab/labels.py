"""The labels of VTAB's tasks, from the features of an example (VTAB's task_adaptation; comparisons in float32)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Example = Mapping[str, Any]

CLEVR_EDGES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
KITTI_EDGES = (-100.0, 8.0, 20.0, 999.0)
VEHICLES = 3
"""KITTI's object types below this are Car, Van and Truck."""
NO_VEHICLE = 1000.0


def bin_of(value: float, edges: Sequence[float]) -> int:
    """Index of the last edge that lies strictly below the value. Raises ValueError if there is none."""
    below = int(np.count_nonzero(np.float32(value) > np.asarray(edges, np.float32)))
    if below == 0:
        raise ValueError(f"{value} is below every edge of {edges}")
    return below - 1


def clevr_count(example: Example) -> int:
    """Number of objects, 3 to 10, from 0."""
    return len(example["objects"]["pixel_coords"]) - 3


def clevr_dist(example: Example) -> int:
    """Bin of the nearest object's distance."""
    return bin_of(min(float(place[2]) for place in example["objects"]["pixel_coords"]), CLEVR_EDGES)


def kitti_dist(example: Example) -> int:
    """Bin of the nearest vehicle's distance in metres; the last one where there is none."""
    objects = example["objects"]
    near = [
        float(place[2]) for kind, place in zip(objects["type"], objects["location"], strict=True) if kind < VEHICLES
    ]
    return bin_of(min(near, default=NO_VEHICLE), KITTI_EDGES)


def dspr_loc(example: Example) -> int:
    """32 horizontal positions in 16 bins of two."""
    return int(np.floor(np.float32(example["label_x_position"]) / np.float32(2.0)))


def dspr_ori(example: Example) -> int:
    """40 orientations in 16 bins of 3, 2, 3, 2, ..."""
    return int(np.floor(np.float32(example["label_orientation"]) / np.float32(2.5)))


RULES: dict[str, Callable[[Example], int]] = {
    "clevr_count": clevr_count,
    "clevr_dist": clevr_dist,
    "kitti_dist": kitti_dist,
    "dspr_loc": dspr_loc,
    "dspr_ori": dspr_ori,
}
"""By a task's rule; any other rule is the name of the feature that is the label."""


def label_of(rule: str, example: Example) -> int:
    """The class index of an example."""
    return RULES[rule](example) if rule in RULES else int(example[rule])


NAMES: dict[str, list[str]] = {
    "clevr_count": [f"{count} objects" for count in range(3, 11)],
    "clevr_dist": ["to 8", "8 to 8.5", "8.5 to 9", "9 to 9.5", "9.5 to 10", "over 10"],
    "kitti_dist": ["to 8 m", "8 to 20 m", "over 20 m", "no vehicle"],
    "dspr_loc": [f"column {2 * place} and {2 * place + 1}" for place in range(16)],
    "dspr_ori": [f"turn {turn + 1} of 16" for turn in range(16)],
    "label_azimuth": [f"{20 * turn} degrees" for turn in range(18)],
    "label_elevation": [f"{30 + 5 * step} degrees" for step in range(9)],
}
"""What the classes of a rule are called, where the source has no names for them."""

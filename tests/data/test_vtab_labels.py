"""VTAB's label rules at every edge, and its splits' numbers, as ../shared/facts/vtab_tasks.csv has them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.prepare.packing import check_counts, class_names, slices
from src.data.vtab.labels import label_of
from src.data.vtab.tasks import SOURCES, TASKS, find_task, tasks_of
from src.records import UserError

ABOVE = float(np.nextafter(np.float32(8), np.float32(9)))


def scene(*distances: float) -> dict[str, object]:
    return {"objects": {"pixel_coords": np.array([[1, 2, far] for far in distances], np.float32)}}


def street(*vehicles: tuple[int, float]) -> dict[str, object]:
    return {"objects": {"type": [kind for kind, _ in vehicles], "location": [(1.0, 2.0, far) for _, far in vehicles]}}


@pytest.mark.parametrize(
    ("nearest", "label"),
    [(0.1, 0), (8.0, 0), (ABOVE, 1), (8.2, 1), (8.5, 1), (8.6, 2), (9.0, 2), (9.1, 3), (9.5, 3), (9.6, 4), (10.0, 4),
     (10.1, 5), (100.0, 5)],
)  # fmt: skip
def test_clevr_dist_is_the_bin_of_the_nearest_object_and_an_edge_belongs_below(nearest: float, label: int) -> None:
    assert label_of("clevr_dist", scene(nearest, 150.0, 120.0)) == label
    assert label_of("clevr_dist", scene(150.0, nearest)) == label


def test_distances_are_compared_in_float32() -> None:
    assert label_of("clevr_dist", {"objects": {"pixel_coords": [[0.0, 0.0, 8.0 + 1e-9]]}}) == 0
    assert label_of("kitti_dist", street((0, 20.0 + 1e-8))) == 1


def test_a_distance_outside_of_all_bins_is_no_label() -> None:
    with pytest.raises(ValueError, match="below every edge"):
        label_of("clevr_dist", scene(0.0))
    assert label_of("clevr_dist", scene(100.5)) == 6  # which is no class of six, and so refused by the writer


@pytest.mark.parametrize("count", range(3, 11))
def test_clevr_count_starts_at_three_objects(count: int) -> None:
    assert label_of("clevr_count", scene(*[9.0] * count)) == count - 3


@pytest.mark.parametrize(
    ("nearest", "label"), [(-5.0, 0), (7.9, 0), (8.0, 0), (ABOVE, 1), (20.0, 1), (20.01, 2), (999.0, 2), (999.5, 3)]
)
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_kitti_dist_is_the_bin_of_the_nearest_car_van_or_truck(kind: int, nearest: float, label: int) -> None:
    assert label_of("kitti_dist", street((3, 1.0), (kind, nearest), ((kind + 1) % 3, 1500.0), (7, -1000.0))) == label


def test_kitti_without_a_vehicle_is_the_last_class() -> None:
    assert label_of("kitti_dist", street()) == 3
    assert label_of("kitti_dist", street(*[(kind, 4.0) for kind in range(3, 8)])) == 3


def test_dsprites_places_and_turns() -> None:
    places = [label_of("dspr_loc", {"label_x_position": x}) for x in range(32)]
    assert places == [place for place in range(16) for _ in (0, 1)]
    turns = [label_of("dspr_ori", {"label_orientation": np.int64(turn)}) for turn in range(40)]
    assert [len(list(group)) for _, group in itertools.groupby(turns)] == [3, 2] * 8
    assert sorted(set(turns)) == list(range(16))


def test_other_labels_are_a_feature_as_it_is() -> None:
    example = {"label": 7, "coarse_label": 1, "label_azimuth": 17, "label_elevation": 8, "label_category": 3}
    rules = {task.name: task.rule for task in TASKS.values() if not task.rule.startswith(("clevr", "kitti", "dspr"))}
    assert {name: label_of(rule, example) for name, rule in rules.items()} == {
        name: {"snorb_azim": 17, "snorb_elev": 8}.get(name, 7) for name in rules
    }
    assert len(rules) == 14


def test_classes_without_names_in_the_source_have_one_each() -> None:
    named = {name: class_names(TASKS[name], None) for name in ("clevr_dist", "kitti_dist", "snorb_azim", "snorb_elev")}
    assert {name: (len(names), names[0], names[-1]) for name, names in named.items()} == {
        "clevr_dist": (6, "to 8", "over 10"),
        "kitti_dist": (4, "to 8 m", "no vehicle"),
        "snorb_azim": (18, "0 degrees", "340 degrees"),
        "snorb_elev": (9, "30 degrees", "70 degrees"),
    }
    assert all(len(set(class_names(task, None))) == task.classes for task in TASKS.values())


# classes, examples of the source's splits, and where train, val and test lie among them
OFFICIAL = {
    "cifar100": (100, {"train": 50000, "test": 10000}, "train[0:800]", "train[45000:45200]", "test[0:10000]"),
    "caltech101": (102, {"train": 3060, "test": 6084}, "train[0:800]", "train[2754:2954]", "test[0:6084]"),
    "dtd": (47, {"train": 1880, "validation": 1880, "test": 1880}, "train[0:800]", "validation[0:200]", "test[0:1880]"),
    "flowers102": (102, {"train": 1020, "validation": 1020, "test": 6149},
                   "train[0:800]", "validation[0:200]", "test[0:6149]"),
    "pets": (37, {"train": 3680, "test": 3669}, "train[0:800]", "train[2944:3144]", "test[0:3669]"),
    "svhn": (10, {"train": 73257, "test": 26032, "extra": 531131},
             "train[0:800]", "train[65931:66131]", "test[0:26032]"),
    "sun397": (397, {"train": 76127, "validation": 10875, "test": 21750},
               "train[0:800]", "validation[0:200]", "test[0:21750]"),
    "camelyon": (2, {"train": 262144, "validation": 32768, "test": 32768},
                 "train[0:800]", "validation[0:200]", "test[0:32768]"),
    "eurosat": (10, {"train": 27000}, "train[0:800]", "train[16200:16400]", "train[21600:27000]"),
    "resisc45": (45, {"train": 31500}, "train[0:800]", "train[18900:19100]", "train[25200:31500]"),
    "retinopathy": (5, {"sample": 10, "train": 35126, "validation": 10906, "test": 42670},
                    "train[0:800]", "validation[0:200]", "test[0:42670]"),
    "clevr_count": (8, {"train": 70000, "validation": 15000, "test": 15000},
                    "train[0:800]", "train[63000:63200]", "validation[0:15000]"),
    "clevr_dist": (6, {"train": 70000, "validation": 15000, "test": 15000},
                   "train[0:800]", "train[63000:63200]", "validation[0:15000]"),
    "dmlab": (6, {"train": 65550, "validation": 22628, "test": 22735},
              "train[0:800]", "validation[0:200]", "test[0:22735]"),
    "kitti_dist": (4, {"train": 6347, "validation": 423, "test": 711},
                   "train[0:800]", "validation[0:200]", "test[0:711]"),
    "dspr_loc": (16, {"train": 737280}, "train[0:800]", "train[589824:590024]", "train[663552:737280]"),
    "dspr_ori": (16, {"train": 737280}, "train[0:800]", "train[589824:590024]", "train[663552:737280]"),
    "snorb_azim": (18, {"train": 24300, "test": 24300}, "train[0:800]", "test[0:200]", "test[12150:24300]"),
    "snorb_elev": (9, {"train": 24300, "test": 24300}, "train[0:800]", "test[0:200]", "test[12150:24300]"),
}  # fmt: skip


def test_all_nineteen_tasks_are_cut_as_vtab_cuts_them() -> None:
    assert list(TASKS) == list(OFFICIAL)
    for name, (classes, counts, *places) in OFFICIAL.items():
        task = TASKS[name]
        source = SOURCES[task.source]
        found = slices(source, counts)
        assert [str(found[split]) for split in ("train", "val", "test")] == places, name
        assert task.classes == classes
        assert check_counts(source, counts) == []
    assert sorted(task.name for source in SOURCES for task in tasks_of(source)) == sorted(TASKS)


def test_a_source_with_two_right_numbers_is_cut_by_the_one_that_is_there() -> None:
    caltech, sun = SOURCES["caltech101"], SOURCES["sun397"]
    counts = {"train": 3059, "test": 6084}
    assert str(slices(caltech, counts)["val"]) == "train[2753:2953]"
    assert check_counts(caltech, counts) == []
    assert check_counts(sun, {"train": 76128, "validation": 10875, "test": 21750}) == []
    assert check_counts(sun, {"train": 76126, "validation": 10875}) == [
        "sun397 has 76,126 examples in train and not 76,127",
        "sun397 has 0 examples in test and not 21,750",
    ]


few = st.integers(0, 12) | st.integers(0, 3000)
COUNTS = st.fixed_dictionaries({"train": few, "validation": few, "test": few})


@given(source=st.sampled_from(sorted(SOURCES)), counts=COUNTS)
def test_of_few_examples_none_is_in_two_splits(source: str, counts: dict[str, int]) -> None:
    found = slices(SOURCES[source], counts).values()
    assert all(0 <= cut.start <= cut.stop <= counts[cut.split] for cut in found)
    for one, other in itertools.combinations(found, 2):
        assert one.split != other.split or max(one.start, other.start) >= min(one.stop, other.stop)


@pytest.mark.parametrize(
    ("name", "near"), [("cifar10", "cifar100"), ("CIFAR100", "cifar100"), ("clevr", "clevr_dist"), ("nothing", "dtd")]
)
def test_a_misspelt_task_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"data\.task={name} is none of VTAB's tasks; near it are .*\b{near}\b"):
        find_task(name)

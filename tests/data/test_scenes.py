"""The demo's scenes: which digits are where, the same bits for the same name, and an object where the mask says."""

import hashlib
import subprocess
import sys
from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data import scenes
from src.data.scenes import Scenes, digit_partition, digits, make_scene
from src.records.errors import UserError

ALL = range(10)
some_classes = st.lists(st.sampled_from(ALL), min_size=1, max_size=10, unique=True)


def fingerprint(made: Scenes) -> str:
    total = hashlib.sha256()
    for scene in made:
        total.update(scene.image.tobytes() + scene.mask.tobytes() + bytes([scene.label]))
    return total.hexdigest()


def test_partitions_share_no_image_and_leave_none_out() -> None:
    parts = [digit_partition(ALL, split) for split in ("train", "val", "test")]
    assert sorted(chain(*parts)) == list(range(1797))


def test_partitions_are_stratified() -> None:
    _, targets = digits()
    whole = Counter(targets.tolist())
    for split, share in (("train", 0.6), ("val", 0.15), ("test", 0.25)):
        part = Counter(targets[digit_partition(ALL, split)].tolist())
        assert all(abs(part[digit] - share * whole[digit]) <= 1 for digit in ALL)


@given(classes=some_classes, split=st.sampled_from(sorted(scenes.SPLITS)))
@settings(max_examples=20, deadline=None)
def test_a_class_has_the_same_images_whatever_the_other_classes(classes: list[int], split: str) -> None:
    together = digit_partition(classes, split)
    assert together == list(chain(*(digit_partition([wanted], split) for wanted in classes)))
    assert set(digits()[1][together]) == set(classes)


@pytest.mark.parametrize("classes", [[], [1, 1], [3, 10], [-1]])
def test_classes_that_are_not_different_digits_are_refused(classes: list[int]) -> None:
    with pytest.raises(UserError, match="different digits"):
        Scenes(classes, "train", 4, 0)


def test_other_bad_arguments_are_refused() -> None:
    with pytest.raises(UserError, match="no split 'tests'; choose one of train, val, test"):
        Scenes(ALL, "tests", 4, 0)
    with pytest.raises(UserError, match="at least 1"):
        Scenes(ALL, "train", 0, 0)
    with pytest.raises(UserError, match="too small"):
        Scenes(ALL, "train", 4, 0, size=16)
    with pytest.raises(UserError, match="seed"):
        Scenes(ALL, "train", 4, -1)


def test_same_name_same_bits_in_any_order_and_any_process() -> None:
    made = Scenes(ALL, "train", 20, seed=5)
    first = fingerprint(made)
    backwards = [Scenes(ALL, "train", 20, seed=5)[i] for i in reversed(range(20))][::-1]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(made, backwards, strict=True))
    code = f"from {__name__} import *; print(fingerprint(Scenes(ALL, 'train', 20, seed=5)))"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout.strip() == first


def test_seed_split_and_classes_each_make_other_scenes() -> None:
    sets = [
        Scenes(ALL, "train", 3, 5),
        Scenes(ALL, "train", 3, 6),
        Scenes(ALL, "val", 3, 5),
        Scenes([0, 1], "train", 3, 5),
    ]
    assert len({fingerprint(made) for made in sets}) == len(sets)


def test_a_longer_set_begins_with_the_shorter_one() -> None:
    longer = Scenes(ALL, "test", 500, 1)
    for i, scene in enumerate(Scenes(ALL, "test", 12, 1)):
        assert np.array_equal(scene.image, longer[i].image) and np.array_equal(scene.mask, longer[i].mask)


@given(classes=some_classes, count=st.integers(1, 60))
@settings(max_examples=20, deadline=None)
def test_labels_are_balanced_and_are_positions(classes: list[int], count: int) -> None:
    made = Scenes(classes, "val", count, seed=0, size=32)
    labels = Counter(scene.label for scene in made)
    assert sum(labels.values()) == len(made) == count
    assert set(labels) <= set(range(len(classes)))
    assert max(labels.values()) - min(labels[i] for i in range(len(classes))) <= 1


def test_each_digit_comes_once_before_any_comes_twice_and_keeps_its_label(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bytes, int]] = []
    monkeypatch.setattr(scenes, "make_scene", lambda _, digit, label, *rest: seen.append((digit.tobytes(), label)))
    classes = (7, 2)
    own = [len(digit_partition([wanted], "test")) for wanted in classes]
    for _ in Scenes(classes, "test", 2 * min(own), seed=3):
        pass
    images, _ = digits()
    for label, wanted in enumerate(classes):
        used = [digit for digit, given in seen if given == label]
        assert len(set(used)) == len(used) == min(own)
        assert set(used) <= {images[i].tobytes() for i in digit_partition([wanted], "test")}


@given(index=st.integers(0, 10**6), size=st.sampled_from([32, 64, 96]), digit=st.integers(0, 1796))
@settings(max_examples=80, deadline=None)
def test_the_mask_is_the_digit_enlarged_and_inside_the_image(index: int, size: int, digit: int) -> None:
    image = digits()[0][digit]
    scene = make_scene([index], image, 4, digits()[0][:20], size)
    assert scene.image.shape == (3, size, size) and scene.image.dtype == np.uint8
    assert scene.mask.shape == (size, size) and scene.mask.dtype == np.bool_
    assert scene.label == 4
    rows, columns = np.flatnonzero(scene.mask.any(axis=1)), np.flatnonzero(scene.mask.any(axis=0))
    assert 0.5 * 22 / 64 <= len(range(rows[0], rows[-1] + 1)) / size <= 34 / 64
    assert len(range(columns[0], columns[-1] + 1)) / size <= 34 / 64
    # The mask has the digit's shape: its ink over its bounding box is that of the small image, roughly.
    small = image >= 7
    small = small[small.any(axis=1)][:, small.any(axis=0)]
    found = scene.mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert abs(found.mean() - small.mean()) < 0.2


def test_the_object_stands_out_from_what_is_around_it() -> None:
    alike = []
    for scene in Scenes(ALL, "train", 200, seed=0):
        near = np.lib.stride_tricks.sliding_window_view(np.pad(scene.mask, 3), (7, 7)).any(axis=(2, 3)) & ~scene.mask
        ink = scene.image[:, scene.mask].mean(axis=1, keepdims=True)
        alike.append((np.abs(scene.image[:, near] - ink).max(axis=0) < 50).mean())
    assert np.quantile(alike, 0.95) < 0.15


def test_scrambled_digits_keep_ink_and_no_two_neighbouring_blocks() -> None:
    assert len(set(scenes.SCRAMBLES)) == 8
    for order in scenes.SCRAMBLES:
        beside, above = {(0, 1), (2, 3)}, {(0, 2), (1, 3)}
        assert sorted(order) == [0, 1, 2, 3]
        assert not {(order[0], order[1]), (order[2], order[3])} & beside
        assert not {(order[0], order[2]), (order[1], order[3])} & above
    image = digits()[0][0]
    scrambled = scenes._scramble(np.random.default_rng(0), image)
    assert sorted(scrambled.ravel()) == sorted(image.ravel()) and not np.array_equal(scrambled, image)


def test_an_index_outside_is_an_index_error() -> None:
    made = Scenes(ALL, "train", 3, 0)
    assert np.array_equal(made[-1].image, made[2].image)
    with pytest.raises(IndexError):
        made[3]

"""From the examples of a source to its prepared folder, with the proof that they are the right ones."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from src.data.vtab.labels import NAMES, label_of
from src.data.vtab.pack import SPLITS, Manifest, Writer, digest_of
from src.data.vtab.tasks import TRAIN, VAL, Source, Task, golden, tasks_of
from src.records import UserError

Example = Mapping[str, Any]
UNDECODABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Slice:
    """Examples `start` to `stop` of a split of tensorflow-datasets."""

    split: str
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.split}[{self.start}:{self.stop}]"


def slices(source: Source, counts: Mapping[str, int]) -> dict[str, Slice]:
    """Where VTAB's splits lie among the examples that there are; none reaches into another's, nor beyond the last.

    counts: examples of each split of the source.
    """
    cuts = {"train": ("train", 0, TRAIN), "val": (source.val.split, source.val.start(counts[source.val.split]), VAL)}
    cuts["test"] = (source.test.split, source.test.start(counts[source.test.split]), counts[source.test.split])
    found = {}
    names = list(cuts)
    for place, (name, (split, start, wanted)) in enumerate(cuts.items()):
        later = [cuts[other][1] for other in names[place + 1 :] if cuts[other][0] == split]
        found[name] = Slice(split, start, min(start + wanted, counts[split], *later))
    return found


def check_counts(source: Source, counts: Mapping[str, int]) -> list[str]:
    """A sentence's beginning for every split that has other than the official number of examples."""
    return [
        f"{source.builder} has {counts.get(split, 0):,} examples in {split} and not {sizes[0]:,}"
        for split, sizes in source.sizes.items()
        if counts.get(split, 0) not in sizes
    ]


Labels = Mapping[str, Mapping[str, list[int]]]
"""By task, then split."""


def check_keys(source: Source, keys: Mapping[str, list[str]], labels: Labels) -> list[str]:
    """A sentence's beginning for every split whose examples, and every task whose labels, are not VTAB's."""
    known = golden().keys.get(source.builder, {})
    wrong = [
        f"the {len(keys[split])} {split} examples of {source.builder} are not VTAB's (their keys have the sha256 "
        f"{digest_of(keys[split])} and not {digest})"
        for split, digest in known.items()
        if digest_of(keys[split]) != digest
    ]
    for task in tasks_of(source.builder):
        expected = golden().labels.get(task.name)
        lines = [
            f"{key}\t{label}"
            for split in ("train", "val")
            for key, label in zip(keys[split], labels[task.name][split], strict=True)
        ]
        if expected and not wrong and digest_of(lines) != expected:
            wrong.append(f"the labels of {task.name}'s {len(lines)} examples are not VTAB's")
    return wrong


def pack(
    source: Source,
    examples: Mapping[str, Iterable[Example]],
    names: list[str] | None,
    folder: Path,
    official: bool,
    warnings: list[str],
    made_with: dict[str, str],
) -> Manifest:
    """Write a source's folder and its manifest. The folder must not be there.

    examples: of each split, with the image still encoded. names: of the label's classes, where the source has some.
    Raises UserError for an image that cannot be decoded, a label out of range, and, if official, for other examples
    than VTAB's.
    """
    tasks = {task.name: task for task in tasks_of(source.builder)}
    with Writer(folder, {name: task.classes for name, task in tasks.items()}) as writer:
        for split in SPLITS:
            for example in examples[split]:
                key = key_of(source, example, names)
                try:
                    labels = {name: label_of(task.rule, example) for name, task in tasks.items()}
                    content = content_of(source, example["image"])
                    writer.check(labels)
                except UnidentifiedImageError as error:
                    raise UserError(f"{key} of {source.builder} cannot be used (no image); fetch it again") from error
                except UNDECODABLE as error:
                    raise UserError(f"{key} of {source.builder} cannot be used ({error}); fetch it again") from error
                writer.add(split, key, content, labels)
        files = writer.finish()
    wrong = check_keys(source, writer.keys, writer.labels)
    if wrong and official:
        raise UserError(f"{'; '.join(wrong)}; fetch the official files, or accept these with data.official=false")
    counts = {
        name: {split: np.bincount(labels[split], minlength=tasks[name].classes).tolist() for split in SPLITS}
        for name, labels in writer.labels.items()
    }
    manifest = Manifest(
        source.builder,
        source.version,
        official,
        {split: len(keys) for split, keys in writer.keys.items()},
        {split: digest_of(keys) for split, keys in writer.keys.items()},
        {name: {"classes": class_names(task, names), "counts": counts[name]} for name, task in tasks.items()},
        files,
        source.raw,
        warnings + wrong,
        made_with,
    )
    manifest.write(folder)
    return manifest


def class_names(task: Task, names: list[str] | None) -> list[str]:
    """What a task's classes are called; by number where nobody has a name for them."""
    return NAMES.get(task.rule) or names or [str(label) for label in range(task.classes)]


def key_of(source: Source, example: Example, names: list[str] | None) -> str:
    """What identifies an example; Caltech101 has file names that recur in every class."""
    value = example[source.key]
    key = value.decode() if isinstance(value, bytes) else str(value)
    return f"{names[int(example['label'])]}/{key}" if source.builder == "caltech101" and names else key


def content_of(source: Source, encoded: bytes) -> bytes:
    """What is kept of an image: its own bytes once they have been decoded on trial, or the pixels of an array."""
    with Image.open(io.BytesIO(encoded)) as image:
        image.load()
        if source.raw is None:
            return encoded
        pixels = np.asarray(image).reshape(source.raw)
    return (pixels * np.uint8(source.scale)).tobytes()

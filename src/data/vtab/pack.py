"""A prepared source on disk: encoded images or raw pixels in one file, labels and keys beside it, and a manifest.

Opened by mapping the file into memory: nothing is read before it is asked for, and nothing is kept.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from src.data.vtab.tasks import golden
from src.records import UserError, write_text

FORMAT = 1
MANIFEST = "manifest.json"
IMAGES = "images.bin"
OFFSETS = "offsets.npy"
KEYS = "keys.txt"
SPLITS = ("train", "val", "test")


@dataclass
class Manifest:
    """What a prepared source is.

    splits: examples of each, which lie one split after the other. keys: sha256 of each split's keys, sorted as strings
    and joined by newlines. tasks: by name, the classes and each split's examples of each class. files: bytes and
    sha256. shape: height, width, channels of raw pixels, or None for encoded images. warnings: what `official: false`
    let pass.
    """

    source: str
    version: str
    official: bool
    splits: dict[str, int]
    keys: dict[str, str]
    tasks: dict[str, dict[str, Any]]
    files: dict[str, dict[str, Any]]
    shape: tuple[int, int, int] | None = None
    warnings: list[str] = field(default_factory=list)
    made_with: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def seal(self) -> str:
        """sha256 of everything else, by which an edit is noticed."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write it into the folder, sealed."""
        write_text(folder / MANIFEST, json.dumps(asdict(self) | {"seal": self.seal()}, indent=1) + "\n")


def read_manifest(folder: Path, again: str) -> Manifest:
    """The manifest of a prepared source. again: the command that prepares it. Raises UserError."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text())
        seal = content.pop("seal")
        if content.get("format") != FORMAT:
            raise UserError(f"{path} is of another version of this project; remove {folder} and prepare again: {again}")
        if content["shape"] is not None:
            content["shape"] = tuple(content["shape"])
        manifest = Manifest(**content)
        sealed = manifest.seal() == seal
    except FileNotFoundError:
        raise UserError(f"{folder} is not prepared; {again}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no whole manifest; remove {folder} and prepare again: {again}") from error
    if not sealed:
        raise UserError(f"{path} was edited after it was written; remove {folder} and prepare again: {again}")
    return manifest


def digest_of(keys: Sequence[str]) -> str:
    """sha256 of keys, sorted as strings and joined by newlines."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()


def is_proved(manifest: Manifest) -> bool:
    """Whether the 1,000 examples are known to be VTAB's, by their keys."""
    known = golden().keys.get(manifest.source)
    return known is not None and all(manifest.keys[split] == digest for split, digest in known.items())


class Writer:
    """Writes a source's files into a folder, one example after the other, split by split; a context manager."""

    def __init__(self, folder: Path, tasks: Mapping[str, int]) -> None:
        """tasks: names, with the number of classes."""
        folder.mkdir(parents=True)
        self.folder = folder
        self.keys: dict[str, list[str]] = {split: [] for split in SPLITS}
        self.labels: dict[str, dict[str, list[int]]] = {task: {split: [] for split in SPLITS} for task in tasks}
        self.classes = tasks
        self.offsets = [0]
        self.file: BinaryIO = (folder / IMAGES).open("wb")

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def check(self, labels: Mapping[str, int]) -> None:
        """Raise ValueError for a label that is no class."""
        for task, label in labels.items():
            if not 0 <= label < self.classes[task]:
                raise ValueError(f"its label {label} in {task} is outside of the {self.classes[task]} classes")

    def add(self, split: str, key: str, content: bytes, labels: Mapping[str, int]) -> None:
        """Write one example."""
        for task, label in labels.items():
            self.labels[task][split].append(label)
        self.keys[split].append(key)
        self.file.write(content)
        self.offsets.append(self.offsets[-1] + len(content))

    def finish(self) -> dict[str, dict[str, Any]]:
        """Write what is not yet; bytes and sha256 of every file."""
        self.file.flush()
        os.fsync(self.file.fileno())
        np.save(self.folder / OFFSETS, np.array(self.offsets, np.int64))
        write_text(self.folder / KEYS, "\n".join(key for split in SPLITS for key in self.keys[split]))
        for task, labels in self.labels.items():
            np.save(self.folder / f"{task}.npy", np.array([x for split in SPLITS for x in labels[split]], np.int16))
        return {path.name: measure(path) for path in sorted(self.folder.iterdir())}


def measure(path: Path) -> dict[str, Any]:
    """A file's bytes and sha256."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


class Pack:
    """A prepared source, opened for one task."""

    def __init__(self, folder: Path, task: str, again: str) -> None:
        """again: the command that prepares it, for errors. Raises UserError for what is missing or was changed.

        All but the images, whose size is enough at each start, is compared with its checksum.
        """
        self.folder = folder
        self.manifest = read_manifest(folder, again)
        if task not in self.manifest.tasks:
            raise UserError(f"{folder} holds {', '.join(self.manifest.tasks)} and not {task}; {again}")
        wrong = next(changed(folder, self.manifest, [OFFSETS, KEYS, f"{task}.npy"]), None)
        if wrong:
            raise UserError(f"{wrong}; remove {folder} and prepare again: {again}")
        self.classes: list[str] = self.manifest.tasks[task]["classes"]
        self.keys = (folder / KEYS).read_text().split("\n")
        self.labels: NDArray[np.int16] = np.load(folder / f"{task}.npy")
        self.offsets: NDArray[np.int64] = np.load(folder / OFFSETS, mmap_mode="r")

    def bounds(self, split: str) -> tuple[int, int]:
        """First example of a split, and the first after it."""
        sizes = [self.manifest.splits[name] for name in SPLITS]
        place = SPLITS.index(split)
        return sum(sizes[:place]), sum(sizes[: place + 1])

    def content(self, example: int) -> NDArray[np.uint8]:
        """The bytes of one example, mapped."""
        return self.mapped()[self.offsets[example] : self.offsets[example + 1]]

    def mapped(self) -> NDArray[np.uint8]:
        """The file of images; mapped anew in each process that reads, since a mapping is not to be sent to one."""
        found: NDArray[np.uint8] | None = self.__dict__.get("_mapped")
        if found is None:
            found = self._mapped = np.memmap(self.folder / IMAGES, np.uint8, "r")
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_mapped"}


def changed(folder: Path, manifest: Manifest, whole: Sequence[str]) -> Iterator[str]:
    """A sentence's beginning for every file that is not as the manifest has it. whole: files to read all bytes of."""
    for name, known in manifest.files.items():
        path = folder / name
        if not path.is_file():
            yield f"{path} is missing"
        elif path.stat().st_size != known["bytes"]:
            yield f"{path} has {path.stat().st_size:,} bytes and not the {known['bytes']:,} that were written"
        elif name in whole and measure(path) != known:
            yield f"{path} was changed after it was written"

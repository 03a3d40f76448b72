"""Archives of the data sets as their authors pack them, from generated lists and small pictures."""

import dataclasses
import hashlib
import io
import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from src.data.fgvc import ARCHIVES, Fgvc, read_lists
from src.data.prepare import unpack
from src.data.prepare.archives import DOWNLOADS, Download
from src.data.prepare.fgvc import prepare
from tests.cub import picture

MINIATURE = {"train": 3, "val": 2, "test": 4}


def jpeg() -> bytes:
    """A small picture."""
    buffer = io.BytesIO()
    picture(0, 20, 30).save(buffer, format="JPEG")
    return buffer.getvalue()


def pack(path: Path, files: Mapping[str, bytes]) -> Path:
    """An archive of these files; its name says of which kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in files.items():
                packed.writestr(name, content)
        return path
    with tarfile.open(path, "w") if path.suffix == ".tar" else tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            add(tar, name, content)
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    """Add a member; fields: what its header says beside name and size, such as `type` and `linkname`."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(content))


def images(name: str, lists: Path, whole: bool) -> dict[str, bytes]:
    """MINIATURE's first images of each split by their names; with whole=True empty files for all."""
    listed = read_lists(lists, ARCHIVES[name])
    splits = {"train": listed.train, "val": listed.val, "test": listed.test}
    if whole:
        return {entry: b"" for items in splits.values() for entry, _ in items}
    return {entry: jpeg() for split, items in splits.items() for entry, _ in items[: MINIATURE[split]]}


def texts(lists: Path, *names: str, folder: str = "") -> dict[str, bytes]:
    """The list files of these names."""
    return {f"{folder}{name}": (lists / name).read_bytes() for name in names}


BIRDS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")


def archives(name: str, lists: Path, folder: Path, whole: bool = False) -> list[Path]:
    """Everything that is to be fetched of a data set, in `folder`."""
    pictures = images(name, lists, whole)
    top = "CUB_200_2011/" if name == "cub" else "nabirds/"
    if name == "cub":
        masks = {f"segmentations/{entry[7:-4]}.png": b"" for entry in pictures}
        own = {f"{top}{entry}": content for entry, content in pictures.items()} | texts(lists, *BIRDS, folder=top)
        return [
            pack(folder / "CUB_200_2011.tgz", {"attributes.txt": b"1 a\n"} | own),
            pack(folder / "segmentations.tgz", masks),
        ]
    if name == "nabirds":
        own = texts(lists, *BIRDS, folder=top) | {f"{top}{entry}": content for entry, content in pictures.items()}
        return [pack(folder / "nabirds.tar.gz", own)]
    if name == "flowers":
        return [pack(folder / "102flowers.tgz", pictures), *copies(lists, folder, "imagelabels.mat", "setid.mat")]
    if name == "dogs":
        return [
            pack(folder / "images.tar", pictures),
            pack(folder / "annotation.tar", {f"Annotation/{entry[7:-4]}": b"<annotation/>" for entry in pictures}),
            pack(folder / "lists.tar", texts(lists, "train_list.mat", "test_list.mat")),
        ]
    split = {
        part: {entry: content for entry, content in pictures.items() if entry.startswith(part)}
        for part in ("cars_train", "cars_test")
    }
    return [
        *(pack(folder / f"{part}.tgz", files) for part, files in split.items()),
        pack(folder / "car_devkit.tgz", texts(lists, "devkit/cars_meta.mat", "devkit/cars_train_annos.mat")),
        *copies(lists, folder, "cars_test_annos_withlabels.mat"),
    ]


def copies(lists: Path, folder: Path, *names: str) -> list[Path]:
    """The files of these names."""
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copy(lists / name, folder / name)) for name in names]


def publish(name: str, paths: list[Path], patch: pytest.MonkeyPatch) -> None:
    """Let these archives be the originals, by size and checksum."""
    sums = {path.name: (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths}
    known = tuple(
        dataclasses.replace(one, size=sums[one.name][0], sha256=sums[one.name][1]) if one.name in sums else one
        for one in DOWNLOADS[name]
    )
    patch.setitem(DOWNLOADS, name, known)


def miniature(name: str, made: dict[str, Path], folder: Path, patch: pytest.MonkeyPatch) -> list[Path]:
    """MINIATURE's images in archives that count as the originals."""
    paths = archives(name, made[name], folder)
    publish(name, paths, patch)
    return paths


def take(path: Path, root: Path, patch: pytest.MonkeyPatch, **wanted: bool) -> None:
    """Prepare CUB from one archive that nothing is known of."""
    patch.setitem(DOWNLOADS, "cub", (Download(path.name, makes=("images.txt",), where="here"),))
    prepare("cub", root, archives=path.parent, subset=True, **wanted)


def extract(path: Path, folder: Path) -> None:
    """Unpack an archive of CUB."""
    with open(path, "rb") as file:
        unpack.extract(unpack.members(path, file), folder, "CUB_200_2011", lambda: None)


def counts(name: str, root: Path) -> dict[str, int]:
    """How many images of each split are there."""
    table = Fgvc(name, str(root), subset=True).table
    return {split: len(found.labels) for split, found in table.splits.items()}


def leftovers(folder: Path) -> list[str]:
    """What is there only while something is being prepared."""
    return [path.name for path in folder.rglob("*") if ".partial" in path.name or path.name == "claim.json"]

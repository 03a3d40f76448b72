"""The files in a tar or zip archive, one after the other, and where each may go."""

import posixpath
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from src.data.walk import printable
from src.records import UserError

ZIP = b"PK\3\4"


@dataclass(frozen=True)
class Member:
    """One file of an archive, or a link to one."""

    place: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]
    link: PurePosixPath | None = None
    """The file in the archive that a link stands for."""


def members(path: Path, file: BinaryIO) -> Iterator[Member]:
    """Every file in the archive, in its order. file: `path`, open; its position says how much has been read.

    Raises UserError for a file that is no archive, and for a member that would end outside of the folder that it is
    unpacked into or is neither file nor folder; what `tarfile` and `zipfile` raise for a damaged one.
    """
    if file.read(len(ZIP)) == ZIP:
        return zip_members(path, file)
    file.seek(0)
    if not tarfile.is_tarfile(file):
        raise UserError(f"{path} is no tar or zip archive, or its beginning is damaged; fetch it again")
    file.seek(0)
    return tar_members(path, file)


def tar_members(path: Path, file: BinaryIO) -> Iterator[Member]:
    """The files in a tar archive, however compressed."""
    with tarfile.open(fileobj=file, mode="r:*") as tar:
        for info in tar:
            place = inside(path, info.name, info.name)
            if info.isdir():
                continue
            link = None
            if info.islnk():
                link = inside(path, info.name, info.linkname)
            elif info.issym():
                link = inside(path, info.name, beside(info.name, info.linkname))
            elif not info.isreg():
                raise refused(path, info.name, "is neither a file nor a folder")
            yield Member(place, info.size, lambda info=info: content(tar, info), link)  # type: ignore[misc]


def content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    """A regular member's bytes."""
    stream = tar.extractfile(info)
    assert stream is not None
    return stream


def zip_members(path: Path, file: BinaryIO) -> Iterator[Member]:
    """The files in a zip archive, in the order in which they lie."""
    with zipfile.ZipFile(file) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            place = inside(path, info.filename, info.filename)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() or kind == stat.S_IFDIR:
                continue
            link = None
            if kind == stat.S_IFLNK:
                aim = archive.read(info).decode(errors="surrogateescape")
                link = inside(path, info.filename, beside(info.filename, aim))
            elif kind not in (0, stat.S_IFREG):
                raise refused(path, info.filename, "is neither a file nor a folder")
            yield Member(place, info.file_size, lambda info=info: archive.open(info), link)  # type: ignore[misc]


def beside(name: str, aim: str) -> str:
    """What a symbolic link points at, counted from the archive's root."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), aim))


def inside(path: Path, name: str, aim: str) -> PurePosixPath:
    """The relative path that `aim` names. Raises UserError, naming the member, if it leads outside."""
    # Archives made under Windows may have backslashes, and there they would be separators in any case.
    plain = aim.replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if plain.startswith("/") or re.match("[A-Za-z]:", plain) or ".." in parts or "\0" in plain:
        raise refused(path, name, f"leads outside of its folder ({printable(aim)})" if aim != name else "leads outside")
    return PurePosixPath(*parts)


def refused(path: Path, name: str, reason: str) -> UserError:
    """The sentence about a member that is not unpacked."""
    return UserError(
        f"{path} is not unpacked: its member {printable(name)} {reason}, which no original archive does; "
        f"fetch {path.name} again from another place"
    )

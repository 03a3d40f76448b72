"""Unpacks an archive into a folder of its own, from where it is moved into place once it is whole."""

import gzip
import lzma
import os
import shutil
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tarfile import TarError

from src.data.prepare.members import Member, members
from src.data.prepare.progress import progress
from src.data.walk import printable
from src.records import UserError
from src.records.files import FULL

CHUNK = 1 << 20
DAMAGED = (
    TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
)
"""What reading a damaged or encrypted archive ends in."""


class Partial:
    """Where an archive is unpacked, beside its final place; named by its checksum, so that only the same one goes on.

    Killed at any moment it is gone on with: `extract` keeps what is whole, `move` what has arrived.
    """

    def __init__(self, archive: Path, target: Path, sha256: str) -> None:
        self.archive = archive
        self.target = target
        self.folder = target / f".{archive.name}.{sha256[:16]}.partial"
        self.files = self.folder / "files"
        self.whole = self.folder / "whole"

    def extract(self, top: str, makes: Sequence[str]) -> None:
        """Unpack everything, leaving out a topmost folder called `top`.

        makes: paths any of which the right archive has. Raises UserError for another or damaged one, and as `members`.
        """
        if self.whole.exists():
            return
        self.files.mkdir(parents=True, exist_ok=True)
        text = f"unpacking {self.archive.name}"
        size = self.archive.stat().st_size
        with undamaged(self.archive), open(self.archive, "rb") as file, progress(text, size) as tick:
            extract(members(self.archive, file), self.files, top, lambda: tick(file.tell()))
        if not any((self.files / path).exists() for path in makes):
            found = ", ".join(printable(name) for name in sorted(os.listdir(self.files))[:3]) or "nothing"
            self.remove()
            raise UserError(f"{self.archive} has no {makes[0]} but {found}; is it another archive under that name?")
        if hasattr(os, "sync"):
            os.sync()  # once for all: flushing each of 50,000 files takes longer than to write them
        self.whole.touch()

    def move(self, last: Sequence[str]) -> None:
        """Move everything into place, the entries called as in `last` after all others."""
        if self.files.is_dir():
            move(self.files, self.target, last)

    def remove(self) -> None:
        """Delete what is left of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def undamaged(archive: Path) -> Iterator[None]:
    """Turn what reading an archive may end in into UserError."""
    try:
        yield
    except DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{archive} is damaged or cut off ({printable(reason)}); fetch it again") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise UserError(f"{archive} is damaged ({error}); fetch it again") from error  # bzip2 says it so


@contextmanager
def sentences(archive: Path, target: Path) -> Iterator[None]:
    """Turn what reading a file and writing below the target may end in into UserError."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise UserError(
                f"there is no space left to unpack {archive} into {target}; free some and start the same command "
                f"again, it goes on from there"
            ) from error
        place = printable(str(error.filename or target))
        raise UserError(f"{archive} cannot be unpacked into {target}: {place}: {error.strerror}") from error


def extract(found: Iterator[Member], folder: Path, top: str, tick: Callable[[], None]) -> None:
    """Write every member below the folder. Links become copies: a link is never made, so none is written through."""
    links: list[tuple[Path, Path]] = []
    spelled: dict[str, Path] = {}
    for member in found:
        path = folder / stripped(member.place.parts, top)
        if path == folder:
            continue
        refuse_twins(path, spelled)
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.link is not None:
            links.append((path, folder / stripped(member.link.parts, top)))
        else:
            write(member, path)
        tick()
    for path, aim in links:
        if not aim.is_file():
            raise UserError(f"{printable(path.name)} in the archive is a link to what is not in it; fetch it again")
        shutil.copyfile(aim, path)


def stripped(parts: Sequence[str], top: str) -> Path:
    """The path without the archive's own topmost folder."""
    return Path(*parts[1:] if parts[:1] == (top,) else parts)


def refuse_twins(path: Path, spelled: dict[str, Path]) -> None:
    """Raise UserError for two members whose names are one to this file system, as Mac's and Windows' ignore case."""
    key = unicodedata.normalize("NFC", str(path)).casefold()
    other = spelled.setdefault(key, path)
    if other != path and path.exists() and other.exists() and path.samefile(other):
        raise UserError(
            f"{printable(path.name)} and {printable(other.name)} are the same file to the disk at {path.parent}, which "
            f"does not tell upper from lower case; give data.root= on one that does"
        )


def write(member: Member, path: Path) -> None:
    """Write a file, or only what differs of one of that size, which an earlier start may have left."""
    there = path.is_file() and path.stat().st_size == member.size
    with member.open() as source, open(path, "r+b" if there else "w+b") as sink:
        position = 0
        while chunk := source.read(CHUNK):
            if not there or sink.read(len(chunk)) != chunk:
                sink.seek(position)
                sink.write(chunk)
            position += len(chunk)
            sink.seek(position)


def move(source: Path, target: Path, last: Sequence[str] = ()) -> None:
    """Rename everything in `source` into `target`; what is there already is replaced, folders are joined."""
    for name in sorted(os.listdir(source), key=lambda name: (name in last, name)):
        new, old = source / name, target / name
        if new.is_dir() and old.is_dir():
            move(new, old)
            new.rmdir()
        else:
            os.replace(new, old)

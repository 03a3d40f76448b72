"""Writing files so that nothing half-written ever looks whole."""

import errno
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from src.records.errors import UserError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}
CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT}


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the name `path` only once it is whole and on disk; on an error the old file stays.

    Raises UserError if the disk is full or the folder cannot be written to.
    """
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~umask())
        os.replace(name, path)
    except OSError as error:
        if error.errno in FULL:
            raise UserError(
                f"there is no space left to write {path}; free some and start the same command again"
            ) from error
        if error.errno in CLOSED:
            raise UserError(f"{path} cannot be written ({error.strerror}); give a folder that may be") from error
        raise
    finally:
        if name:
            Path(name).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file atomically."""
    with atomic(path) as file:
        file.write(text.encode())


def publish(path: Path, text: str) -> bool:
    """Write a whole text file that is written once: False, and nothing changed, if it is there already.

    By an exclusive link, which network file systems know too; by exclusive creation on a disk that has no links.
    """
    own = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    write_text(own, text)
    try:
        os.link(own, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            return False
    finally:
        own.unlink(missing_ok=True)
    return True


def umask() -> int:
    """The process's file mode mask, which temporary files do not follow by themselves."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask

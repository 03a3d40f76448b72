"""Whether a downloaded file is the one that its authors published."""

import hashlib
import logging
from pathlib import Path

from src.data.prepare.archives import Download
from src.data.prepare.progress import progress
from src.records import UserError

CHUNK = 1 << 20
log = logging.getLogger("src")


def check_size(path: Path, download: Download, official: bool) -> None:
    """Compare a file's size with the published one, and look whether it is a web page.

    official: raise UserError if it is another file; else warn.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        page = file.read(1024).lstrip().lower().startswith((b"<!doctype", b"<html"))
    if page:
        refuse(path, "is a web page and no archive", official)
    elif download.size is not None and size != download.size:
        cut = " it is cut off, or another file" if size < download.size else " it is another file"
        refuse(path, f"has {size:,} bytes instead of {download.size:,}:{cut}", official)


def check_sum(path: Path, download: Download, official: bool) -> str:
    """The file's sha256, after a comparison with the published sha256, or else md5; official: as `check_size`."""
    size = path.stat().st_size
    known = {"sha256": download.sha256} if download.sha256 else {"md5": download.md5} if download.md5 else {}
    if not official and download.size not in (None, size):
        known = {}  # the size has said it
    sums = {kind: hashlib.new(kind, usedforsecurity=False) for kind in {"sha256", *known}}
    with open(path, "rb") as file, progress(f"checking {path.name}", size) as tick:
        while chunk := file.read(CHUNK):
            for total in sums.values():
                total.update(chunk)
            tick(file.tell())
    for kind, expected in known.items():
        found = sums[kind].hexdigest()
        if found != expected:
            refuse(path, f"has the {kind} {found} instead of {expected}: it was damaged or changed", official)
    return sums["sha256"].hexdigest()


def refuse(path: Path, wrong: str, official: bool) -> None:
    """Raise UserError for a file that is not the published one; with official=False warn instead."""
    if official:
        raise UserError(
            f"{path} {wrong}; fetch {path.name} again, or accept it as it is with data.official=false "
            f"(a mirror's packing, or a part of the set)"
        )
    log.warning(f"warning: {path} {wrong}; taken as it is, for data.official=false")

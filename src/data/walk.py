"""Finds pictures in folders in which people and programs have left other things."""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from src.records import UserError

SUFFIXES = {
    ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
LITTER = {"__macosx", "@eadir", "desktop.ini", "lost+found", "thumbs.db"}
"""What systems leave beside pictures, in small letters; most of it is hidden by a dot anyway."""
SHOWN = 3

Sizes = dict[str, int]
"""Pictures by their path from the root, with their size in bytes."""


def printable(name: str) -> str:
    """A file's name as text that every file and terminal takes: bytes that are not UTF-8 become \\xNN."""
    return os.fsencode(name).decode(errors="backslashreplace")


class Walk:
    """A look through a folder tree that remembers what it skipped, by the reason.

    Everything comes sorted by name. Raises UserError for a folder that cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: dict[str, set[str]] = defaultdict(set)

    def entries(self, path: str) -> tuple[list[str], Sizes]:
        """The folders in a folder, and its files with their sizes: paths from the root, without the hidden ones."""
        folders: list[str] = []
        files: Sizes = {}
        try:
            with os.scandir(self.root / path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(
                f"the folder {self.root / path} cannot be read ({error.strerror}); check data.root and its permissions"
            ) from error
        for entry in entries:
            place = os.path.join(path, entry.name)
            if entry.name.startswith(".") or entry.name.lower() in LITTER:
                self.skipped["hidden or system files and folders"].add(place)
                continue
            try:
                if entry.is_dir():
                    folders.append(place)
                else:
                    files[place] = entry.stat().st_size
            except OSError:
                self.skipped["links that lead nowhere"].add(place)
        return folders, files

    def classes(self, path: str) -> dict[str, Sizes]:
        """The pictures of every class folder in a folder, by class; a class without any is skipped."""
        folders, files = self.entries(path)
        self.skipped["files outside of class folders"].update(files)
        found: dict[str, Sizes] = {}
        for folder in folders:
            pictures = self.pictures(folder, {os.path.realpath(self.root / path)})
            if pictures:
                found[printable(os.path.basename(folder))] = pictures
            else:
                self.skipped["class folders without pictures"].add(folder)
        return found

    def pictures(self, path: str, seen: set[str]) -> Sizes:
        """The pictures in a folder and in those within it. seen: real paths of folders that are not entered (again)."""
        real = os.path.realpath(self.root / path)
        if real in seen:
            self.skipped["links that lead back"].add(path)
            return {}
        seen.add(real)
        folders, files = self.entries(path)
        found = {place: size for place, size in files.items() if os.path.splitext(place)[1].lower() in SUFFIXES}
        self.skipped["files that are no pictures"].update(files.keys() - found.keys())
        for folder in folders:
            found |= self.pictures(folder, seen)
        return found

    def report(self) -> str:
        """What was skipped, in words; empty if nothing was."""
        return ", ".join(f"{reason} ({len(names)}: {some(names)})" for reason, names in self.skipped.items() if names)


def some(names: Iterable[str]) -> str:
    """The first few of the names."""
    shown = [printable(name) for name in sorted(names)]
    return ", ".join(shown[:SHOWN] + ["..."] * (len(shown) > SHOWN))

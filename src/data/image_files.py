"""Images as files below a folder."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from src.data.images import read_image
from src.data.table import Images
from src.records import UserError

Items = list[tuple[str, int]]
"""(name, class index): a name is an image's path from the data set's root, as its original archive has it."""


class ImageFiles(Images):
    """Images as files below a folder; `places` says where one lies that is not at its name."""

    def __init__(
        self, root: Path, items: Items, upright: bool = False, places: Mapping[str, str] | None = None
    ) -> None:
        self.root = root
        self.names = [name for name, _ in items]
        self.labels = [label for _, label in items]
        self.upright = upright
        self.paths = [(places or {}).get(name, name) for name in self.names]

    def pixels(self, example: int) -> Tensor:
        return read_image(self.root / self.paths[example], self.upright)


def existing(root: Path, paths: Iterable[str]) -> set[str]:
    """Those of the paths from the root at which there is something.

    Every folder is listed once: on a network's disk each file asked for would be a round trip of its own. Raises
    UserError for a folder that may not be read.
    """
    found: set[str] = set()
    for folder in {os.path.dirname(path) for path in paths}:
        try:
            found.update(os.path.join(folder, name) for name in os.listdir(root / folder))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UserError(f"the folder {root / folder} cannot be read ({error}); check its permissions") from error
    return found

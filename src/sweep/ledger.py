"""Which runs of a sweep are done already, known without data or weights: an index of the records by their configs."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.records import Record, UserError, config_hash, identity, read_record, write_text

FOLDER = ".sweep"


class Ledger:
    """An index below `paths.runs`: a file a cell, which names the run folder that holds its record.

    A cell is a config as far as it changes results, with names of weights and data in the place of their checksums; so
    an entry says where to look, and the record there says of which weights and images it is.
    """

    def __init__(self, runs: Path) -> None:
        self.runs = runs

    def path(self, config: Mapping[str, Any]) -> Path:
        """Where the entry of a config is."""
        backbone = {key: value for key, value in config["backbone"].items() if key != "folder"}
        return self.runs / FOLDER / f"{config_hash(identity(config, backbone, {}, None))}.json"

    def find(self, config: Mapping[str, Any]) -> Record | None:
        """The record of a config that finished or diverged. Raises UserError for one that cannot be read."""
        try:
            name = json.loads(self.path(config).read_text())["run"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        record = read_record(self.runs / Path(name).name)
        return record if record is not None and record.status in ("finished", "diverged") else None

    def enter(self, config: Mapping[str, Any], record: Record) -> None:
        """Note where the record of a config is; once, unless it has moved since.

        Without an entry, on a full disk for one, the run itself says that it is done, somewhat later.
        """
        path = self.path(config)
        content = json.dumps({"run": record.name}) + "\n"
        with contextlib.suppress(OSError):
            if path.read_text() == content:
                return
        with contextlib.suppress(UserError):
            write_text(path, content)

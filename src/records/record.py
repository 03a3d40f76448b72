"""result.json: the only thing that tables, reports and sweeps read."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.records.errors import Lost, UserError
from src.records.files import publish

SCHEMA = 1
STATUSES = ("finished", "diverged", "failed")
NAME = "result.json"


@dataclass
class Record:
    """What a run was and what came of it; the fields are described in CONTRIBUTING.md."""

    name: str
    status: str
    experiment: str | None
    stage: str
    method: str
    preset: str
    options: dict[str, Any]
    dataset: str
    task: str | None
    split: dict[str, int]
    official: bool
    fingerprint: str
    backbone: dict[str, Any]
    init: dict[str, Any]
    preprocessing: dict[str, Any]
    seed: int
    config_hash: str
    optim: dict[str, Any]
    epochs: int
    batch_size: int
    precision: str
    devices: list[dict[str, Any]]
    threads: int
    marks: list[str]
    metrics: dict[str, float | int | None] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    schema: int = SCHEMA

    def write(self, folder: Path) -> None:
        """Write result.json, whole and once; numbers that are not finite become null.

        Raises Lost if another process has written one meanwhile.
        """
        text = json.dumps(finite(dataclasses.asdict(self)), indent=2, ensure_ascii=False) + "\n"
        if not publish(folder / NAME, text):
            raise Lost(f"{folder / NAME} has been written by another process meanwhile; this one's result is discarded")


AGAIN = "remove its folder, and the same command runs it again"


def read_record(folder: Path) -> Record | None:
    """The record of a run folder, or None if there is none yet. Raises UserError for one that cannot be understood."""
    path = folder / NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); {AGAIN}") from error
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        found = values.get("schema") if isinstance(values, dict) else None
        raise UserError(f"{path} is of schema {found}, this version reads {SCHEMA}; {AGAIN}")
    try:
        record = Record(**values)
    except TypeError as error:
        raise UserError(f"{path} is not a whole record ({error}); {AGAIN}") from error
    if record.status not in STATUSES:
        raise UserError(f"{path} has the status {record.status!r}, which is none of {', '.join(STATUSES)}; {AGAIN}")
    return record


def finite(value: Any) -> Any:
    """The value with every number that JSON cannot hold replaced by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

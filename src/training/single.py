"""A run in a process of its own, for runs on more devices than one."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from src.records import Record, UserError, read_record
from src.training.parts import make_parts, run_folder


def run_apart(config: Mapping[str, Any], arguments: Sequence[str]) -> Record:
    """Start `src.train` with these arguments and wait; the record that it left. Raises UserError if it left none."""
    done = subprocess.run(
        [sys.executable, "-m", "src.train", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode not in (0, 3):
        said = done.stderr.strip().splitlines()
        reason = said[-1].removeprefix("error: ") if said else "it said nothing"
        raise UserError(f"its process ended with exit code {done.returncode}: {reason}")
    record = read_record(run_folder(config, make_parts(config).record))
    if record is None:
        raise UserError("its process left no record")
    return record

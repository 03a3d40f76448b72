"""A run in a process of its own, for runs on more devices than one."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from src.records import Busy, Record, UserError, read_record
from src.training.parts import make_parts, run_folder

GRACE = 30.0
"""Seconds that the process has to end tidily."""


def run_apart(config: Mapping[str, Any], arguments: Sequence[str]) -> Record:
    """Start `src.train` with these arguments and wait; the record that it left. Raises UserError if it left none."""
    env = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # W&B's process is ours
    process = subprocess.Popen(
        [sys.executable, "-m", "src.train", *arguments],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        said = process.communicate()[1].strip().splitlines()
    except BaseException:
        process.terminate()  # it ends its other devices' processes; killed, it would leave them behind
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=GRACE)
        process.kill()
        process.wait()
        raise
    folder = run_folder(config, make_parts(config).record)
    if process.returncode not in (0, 3):
        reason = said[-1].removeprefix("error: ") if said else "it said nothing"
        if process.returncode == 2 and (folder / "claim.json").exists():
            raise Busy(reason)  # its own claim it would have given back
        raise UserError(f"its process ended with exit code {process.returncode}: {reason}")
    record = read_record(folder)
    if record is None:
        raise UserError("its process left no record")
    return record

"""A run so small that a test can afford several."""

import time
from pathlib import Path
from typing import Any

from src.config.compose import compose_config

TINY = [
    "backbone=random_small",
    "backbone.architecture.embed_dim=24",
    "backbone.architecture.depth=3",
    "data.train=33",
    "data.val=20",
    "data.test=21",
    "data.batch_size=16",
    "trainer=cpu",
    "trainer.threads=1",
    "trainer.max_epochs=3",
]


def arguments(runs: Path, *more: str, method: str = "toast") -> list[str]:
    """The command line of a tiny run."""
    return [f"experiment=demo/{method}", *TINY, f"paths.runs={runs}", *more]


def tiny(runs: Path, *more: str, method: str = "toast") -> dict[str, Any]:
    """The config of a tiny run."""
    return compose_config(arguments(runs, *more, method=method))


PATIENCE = 90.0
"""Seconds in which another process gets somewhere."""


def wait_for(marker: Path) -> int:
    """The process that a file names, once it is there."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if marker.exists() and (text := marker.read_text()):
            return int(text)
        time.sleep(0.02)
    raise AssertionError(f"{marker} never came")

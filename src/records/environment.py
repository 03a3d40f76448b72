"""What a run ran on: versions, and the state of the code."""

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "timm", "lightning", "numpy")


def environment(device: str) -> dict[str, Any]:
    """Versions of what computes, the device's name, and the code's commit."""
    versions = {package: package_version(package) for package in PACKAGES}
    return {"python": platform.python_version(), **versions, "device": device, **commit()}


def package_version(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@lru_cache(maxsize=1)  # of the code that was loaded; what is changed later runs in the next process
def commit() -> dict[str, Any]:
    """The git commit of this code and whether anything was changed since; None where there is no git."""
    here = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}

"""Who runs the jobs of a sweep: this process, a Ray cluster, or SLURM."""

from src.sweep.launchers.inline import Inline
from src.sweep.launchers.launcher import Launcher

__all__ = ["Inline", "Launcher"]

"""Lightning's Trainer with the few things that this project adds, and a checkpoint writer that never tears a file."""

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException

from src.config.build import build
from src.records import UserError, atomic


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name, flushes and renames; reads one without running code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        # Serialised first: torch's own writer turns a full disk into an error of another kind.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic(Path(path)) as file:
            file.write(content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content on the CPU. Raises UserError for a file that is missing, torn, or would run code."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"the checkpoint {path} is missing") from None
    except Exception as error:  # torch.load raises whatever the bytes make its readers raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the checkpoint {path} cannot be read ({reason}); start over with ckpt=none") from error
    if not isinstance(content, dict) or not {"state_dict", "frozen", "classes"} <= content.keys():
        raise UserError(f"{path} is not a checkpoint of a run")
    return content


class Trainer(pl.Trainer):
    """Lightning's Trainer.

    threads: CPU threads of each process, part of what makes a run bit-identical; None leaves torch's own choice.
    tf32: let CUDA round float32 products to TF32; off, since parity is promised in float32. options: as in Lightning's
    Trainer, whose own progress bar, checkpoints and samplers are off.
    """

    def __init__(self, *, threads: int | None = None, tf32: bool = False, **options: Any) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        ours = {
            "enable_progress_bar": False,
            "enable_checkpointing": True,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
            "plugins": [AtomicCheckpoints()],
        }
        try:
            super().__init__(**{**ours, **options})
        except (MisconfigurationException, ModuleNotFoundError, TypeError, ValueError) as error:
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error
        # Lightning would go on with bf16, after a warning.
        if str(options.get("precision", "")).startswith("16") and self.precision.startswith("bf16"):
            raise UserError("trainer.precision=16-mixed needs a GPU; take bf16-mixed or 32-true on the CPU")


def devices_of(config: Mapping[str, Any]) -> int:
    """How many devices a run computes on, over all machines. Raises UserError for a trainer that cannot be here."""
    devices, nodes = config["trainer"]["devices"], int(config["trainer"]["num_nodes"])
    if isinstance(devices, int) and devices > 0:
        return devices * nodes
    return int(build(config["trainer"], "trainer", logger=False).num_devices) * nodes  # auto, -1, a list


PARENT = "TOAST_PARENT"
"""Environment variable by which the processes that DDP starts know whose they are."""


def forget_stale_ranks() -> None:
    """Drop what an earlier distributed run left in the shell: a port that is taken, ranks of processes long gone.

    torchrun and SLURM set these on purpose and say so; our own children know their parent.
    """
    if is_started_outside() or is_child():
        return
    for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK"):
        os.environ.pop(name, None)
    os.environ[PARENT] = str(os.getpid())


def is_started_outside() -> bool:
    """Whether torchrun or SLURM starts a process for each device, this one among them."""
    return "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_NTASKS" in os.environ


def is_child() -> bool:
    """Whether Lightning started this process beside the one that the user started."""
    return os.environ.get(PARENT) == str(os.getppid()) and os.environ.get("LOCAL_RANK", "0") != "0"


def rank() -> int:
    """This process's place among those of its run, before Lightning has set anything up."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ.get("LOCAL_RANK") or 0)

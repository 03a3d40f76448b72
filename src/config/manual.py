"""What there is to choose, read from `conf/` as text, and the short manual of `python -m src.train --help`."""

import textwrap
from pathlib import Path

CONF = Path(__file__).resolve().parents[2] / "conf"
WIDTH = 98

TOP = """\
python -m src.train experiment=NAME [key=value ...]

Trains one method on one data set and tests it once, after the last epoch. The same line again
goes on where a killed run stopped, or returns the finished one. python -m src.list describes what
there is to choose.
"""

ARGUMENTS = {
    "config": "a run's saved config.yaml: that run again; values given beside it win",
    "data.root": "folder of the data set; without it a named folder under paths.data",
    "data.subset": "true: use the images that are there; the record counts as not official",
    "backbone.file": "your own weights (.safetensors .pth .npz), with backbone.source=file",
    "method.*": "its options: method.rank=8, method.first_block=6, method.init=FILE, ...",
    "optim.lr": "learning rate; without it the recipe's for this method and data set",
    "seed": "42 unless given; the paper's are 42, 44 and 82",
    "preset": "official: as the published numbers came about; paper: as the paper words it",
    "trainer": "default: one device, whichever there is; cpu; ddp with trainer.devices=4",
    "trainer.max_epochs": "epochs; without it the recipe's",
    "trainer.precision": "32-true, bf16-mixed, or 16-mixed on CUDA",
    "logger": "csv (always), tensorboard, wandb, or '[tensorboard,wandb]'",
    "paths.runs": "where the runs' folders lie; paths.data and paths.weights likewise",
    "-m": "several runs: lists of values, and the search of vtab/...; launcher=ray or slurm for many devices",
    "dry_run": "true: with -m, list the runs and which are done; start nothing",
    "ckpt": "last: go on where it stopped; none: start over",
    "force": "true: repeat a finished run",
    "debug": "fast: two batches of everything; overfit: one batch again and again",
}

EXAMPLES = """\
  python -m src.train experiment=demo/toast                                  needs nothing
  python -m src.train experiment=fgvc/toast data.root=~/CUB_200_2011
  python -m src.train experiment=fgvc/lora backbone=vit_l16_in21k seed=44
  python -m src.train experiment=fgvc/toast_lite preset=paper optim.lr=0.003 logger=wandb
  python -m src.train experiment=fgvc/vpt trainer=ddp trainer.devices=4 trainer.precision=bf16-mixed
  python -m src.train -m experiment=vtab/toast data.task=cifar100,dtd
  python -m src.train config=runs/NAME/config.yaml trainer.max_epochs=20
"""

BOTTOM = """\
Results: a folder a run under paths.runs, named after method, data set, stage, seed and a hash of
what changes results: result.json, metrics.csv, config.yaml, run.log, checkpoints/.

Exit codes: 0 finished, 1 a bug, 2 a mistake in what was asked, 3 diverged, 130 or 143 interrupted.
"""


def choices(group: str) -> dict[str, str]:
    """The options of a config group and what the first comment of each file says about it."""
    files = sorted((CONF / group).rglob("*.yaml"))
    return {file.relative_to(CONF / group).with_suffix("").as_posix(): description(file) for file in files}


def description(file: Path) -> str:
    """The first comment line of a yaml that is not Hydra's `@package`; empty if there is none."""
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        comment = line.removeprefix("#").strip()
        if line.startswith("#") and not comment.startswith("@package"):
            return comment
    return ""


def in_folders(group: str) -> str:
    """The names of a group's options, a line a folder."""
    folders: dict[str, list[str]] = {}
    for name in choices(group):
        folder, slash, option = name.rpartition("/")
        folders.setdefault(folder + slash, []).append(option)
    return "\n".join(" ".join([folder, *names]).strip() for folder, names in folders.items())


def manual() -> str:
    """What `python -m src.train --help` prints."""
    groups = {group: in_folders(group) for group in ("experiment", "method", "data", "backbone")}
    return "\n".join([TOP, "Choose:", entries(groups), "Change:", entries(ARGUMENTS), "Examples:", EXAMPLES, BOTTOM])


def entries(texts: dict[str, str]) -> str:
    """Names and their texts in two columns."""
    width = max(map(len, texts))
    lines = []
    for name, text in texts.items():
        for number, line in enumerate(text.splitlines()):
            first = f"  {'' if number else name:<{width}}  "
            lines += textwrap.wrap(
                line, WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False
            )
    return "\n".join(lines) + "\n"

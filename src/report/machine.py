"""What this machine offers a run: a finding for each thing looked at, and the command that mends what is wrong."""

import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from packaging.requirements import Requirement

from src.config.compose import PROJECT, hydra_compose, hydra_ready, put_back, split_paths
from src.config.manual import choices
from src.records.environment import commit, package_version

GIB = 2**30
SMALL = GIB
"""Bytes of shared memory or disk below which a run may stop half-way."""
LITTLE_SHARED = (
    "; little: the data loader's workers hand batches over in it and die of a bus error when it is full, "
    "so start the container with --shm-size=2g or give data.workers=0"
)


class Finding(NamedTuple):
    """One thing looked at; with `broken` no training can run, and `command` mends it."""

    name: str
    text: str
    state: Literal["ok", "note", "broken"] = "ok"
    command: str = ""


def pip_install(*words: str) -> str:
    """The command line that installs into this very python."""
    return shlex.join([sys.executable, "-m", "pip", "install", *words])


def pyproject() -> dict[str, Any]:
    """The `project` table of pyproject.toml."""
    table = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert isinstance(table, dict)
    return table


def versions() -> Iterator[Finding]:
    """Python, the code's commit, and every core package against what pyproject.toml asks for."""
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    code = commit()
    changed = ", changed since" if code["dirty"] else ""
    yield Finding("project", f"commit {code['commit'][:10]}{changed}" if code["commit"] else "not in a git checkout")
    for requirement in map(Requirement, pyproject()["dependencies"]):
        installed = package_version(requirement.name)
        if installed is not None and requirement.specifier.contains(installed, prereleases=True):
            yield Finding(requirement.name, installed)
        else:
            text = f"{installed or 'missing'}; the project needs {requirement}"
            yield Finding(requirement.name, text, "broken", pip_install(str(requirement)))


def pair() -> Iterator[Finding]:
    """Whether torchvision's compiled operators load into this torch, which pip does not see to."""
    both = [f"{name} {package_version(name) or '(missing)'}" for name in ("torch", "torchvision")]
    try:
        import torch
        import torchvision

        both = [f"torch {torch.__version__}", f"torchvision {torchvision.__version__}"]
        torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except Exception as error:
        text = f"{' and '.join(both)} do not work together ({sentence(error)}); install a pair that does:"
        lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
        wanted = re.findall(r"^(?:torch|torchvision)==[^\s;]+", lock, re.MULTILINE)
        # Versions that look right come from a build for something else, which pip would leave alone.
        same = all(pin.split("==")[1] == package_version(pin.split("==")[0]) for pin in wanted)
        force = ["--force-reinstall"] if same else []
        yield Finding("together", text, "broken", pip_install(*force, *wanted))
    else:
        yield Finding("together", f"{' and '.join(both)} work together")


def devices() -> Iterator[Finding]:
    """GPUs with their memory, cores and threads."""
    import torch

    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        yield Finding(f"cuda:{number}", f"{card.name}, {card.total_memory / GIB:.1f} GiB")
    if not torch.cuda.is_available():
        # Only where there is a driver is a GPU that torch does not see worth a look.
        driver = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()
        text = f"a driver is there, but torch finds no GPU: {cuda_error()}" if driver else "none"
        yield Finding("cuda", text, "note" if driver else "ok")
    if torch.backends.mps.is_available():
        yield Finding("mps", "there; shares the machine's memory")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("cpu", f"{usable} cores, {torch.get_num_threads()} threads in torch")


def cuda_error() -> str:
    """Why torch cannot use a GPU."""
    import torch

    try:
        torch.zeros(1, device="cuda")
    except Exception as error:
        return sentence(error)
    return "no device is visible"


def room(arguments: Sequence[str]) -> Iterator[Finding]:
    """Shared memory for the loader's workers, and the disk that runs are written to."""
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        little = size < SMALL
        yield Finding(
            "shared memory", f"{size / GIB:.1f} GiB{LITTLE_SHARED if little else ''}", "note" if little else "ok"
        )
    runs = Path(chosen(arguments)["paths"]["runs"])
    place = next(folder for folder in (runs, *runs.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
    except OSError as error:
        yield Finding("runs", f"{runs} cannot be written to ({error.strerror}); give paths.runs= of your own", "broken")
        return
    free = shutil.disk_usage(place).free
    scarce = "; little: give paths.runs= on another disk" if free < SMALL else ""
    yield Finding("runs", f"{free / GIB:.1f} GiB free at {runs}{scarce}", "note" if scarce else "ok")


def chosen(arguments: Sequence[str], *choice: str) -> dict[str, Any]:
    """`paths`, `data` and `backbone` of a config, without what only a recipe could fill in."""
    arguments, paths = split_paths(arguments)
    with hydra_ready():
        config = hydra_compose([*arguments, *choice])
        wanted = {"paths": ["runs"], "data": ["root"], "backbone": ["name", "source", "file", "folder"]}
        found = put_back({group: {key: config[group].get(key) for key in wanted[group]} for group in wanted}, paths)
    assert isinstance(found, dict)
    return found


def data(arguments: Sequence[str]) -> Iterator[Finding]:
    """The folder of every data set."""
    for name in choices("data"):
        root = chosen(arguments, f"data={name}")["data"]["root"]
        if root is None:
            yield Finding(name, "needs no folder, or data.root= of your own")
        elif Path(root).is_dir():
            yield Finding(name, f"in {root}")
        else:
            yield Finding(name, f"not in {root}; put it there or give data.root=", "note")


def weights(arguments: Sequence[str]) -> Iterator[Finding]:
    """The weights of every backbone."""
    from src.backbones import EMBEDDED, local_file

    for option in choices("backbone"):
        node = chosen(arguments, f"backbone={option}")["backbone"]
        name, folder = node["name"], node["folder"]
        if node["source"] == "random":
            yield Finding(option, "drawn from the seed")
            continue
        own = node["file"] or (EMBEDDED if node["source"] == "embedded" else None)
        file = Path(own) if own else local_file(name, folder)
        if file is not None and file.is_file():
            yield Finding(option, f"in {file}")
        elif file is not None:
            yield Finding(option, f"{file} is not there", "note")
        else:
            text = f"not on this machine; fetched when first used, or put {name}.safetensors into {folder}"
            yield Finding(option, text, "note")


def extras() -> Iterator[Finding]:
    """What only some runs need."""
    for extra, lines in pyproject()["optional-dependencies"].items():
        missing = [r.name for r in map(Requirement, lines) if package_version(r.name) is None]
        if missing:
            command = pip_install("-e", f"{PROJECT}[{extra}]")
            yield Finding(extra, f"without {', '.join(missing)}", "note", command)
        else:
            yield Finding(extra, "installed")


def sentence(error: BaseException) -> str:
    """An error's own words in one line, or its kind."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__

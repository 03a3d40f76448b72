"""VTAB-1k from downloads to prepared folders, one source after the other, with TensorFlow in a process of its own."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from src.data.prepare.claimed import claimed
from src.data.prepare.progress import say
from src.data.prepare.tfds import INSTALL, Job, fetch
from src.data.vtab.pack import MANIFEST, Manifest, changed, read_manifest
from src.data.vtab.tasks import SOURCES, TASKS, Source, find_task
from src.records import UserError, write_text

WORK = ".work"
"""Below the root: what is fetched, unpacked and built on the way, a folder a source; removed when it is prepared."""


class Builder:
    """The process that runs TensorFlow, started when it is first needed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Builder":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process is not None:
            self.end(self.process)

    def build(self, job: Job) -> Manifest:
        """Have one source built and packed. Raises UserError."""
        if self.process is None:
            self.process = start()
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(asdict(job)) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            code = self.end(self.process)
            hint = "memory may have run out: free some and" if code == -signal.SIGKILL else "its words stand above;"
            raise UserError(f"the process that builds {job.source} ended with {code}; {hint} start again")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise UserError(answer["error"])
        shape = answer["manifest"].pop("shape")
        return Manifest(**answer["manifest"], shape=tuple(shape) if shape else None)

    def end(self, process: subprocess.Popen[str]) -> int:
        """Let the process go, and wait for it; its exit code."""
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        code = process.wait()
        process.stdout.close()
        self.process = None
        return code


def start() -> subprocess.Popen[str]:
    """Start the process. Raises UserError if what it needs is not installed."""
    for name in ("tensorflow_datasets", "tensorflow", "importlib_resources", "array_record"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"preparing VTAB-1k needs the package {name}; {INSTALL}")
    project = str(Path(__file__).resolve().parents[3])
    paths = os.pathsep.join(filter(None, [project, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "src.data.prepare.tfds"],
        env=os.environ
        | {"PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def sources_of(tasks: Sequence[str]) -> list[Source]:
    """The sources of tasks, each once; `all` stands for every task. Raises UserError for a name that is none."""
    names = [name for task in tasks for name in (TASKS if task == "all" else [task])]
    return [SOURCES[name] for name in dict.fromkeys(find_task(task).source for task in names)]


def prepare(
    tasks: Sequence[str], root: Path, archives: Path | None = None, official: bool = True
) -> Iterator[tuple[Source, Manifest | None, bool]]:
    """Prepare the sources of tasks one after the other; each with its manifest and whether anything had to be done.

    What is prepared already is compared with its checksums, all bytes of it, and left alone. A source that cannot be
    prepared has None for a manifest, after a sentence on stderr; the others go on.

    archives: where the downloads lie; without it the root. official: refuse other files than the official ones and
    other examples than VTAB's; else warn, and let the manifest and every record say so. Raises UserError for a task
    that is none, and for a folder of archives that is not there.
    """
    if archives is not None and not archives.is_dir():
        raise UserError(f"data.archives={archives} is no folder; give the one that the downloads lie in")
    with Builder() as builder:
        for source in sources_of(tasks):
            try:
                yield source, *prepare_one(source, root, archives or root, official, builder)
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)
                yield source, None, False


def prepare_one(source: Source, root: Path, archives: Path, official: bool, builder: Builder) -> tuple[Manifest, bool]:
    """One source's manifest, and whether it had to be built."""
    target, work = root / source.builder, root / WORK / source.builder
    if (target / MANIFEST).is_file():
        manifest = check_prepared(target, official)
        if work.is_dir() and os.access(work, os.W_OK):
            clean(work)
        return manifest, False
    if target.exists():
        raise UserError(f"{target} is there, and not of this command; move it away, or give another data.root=")
    check_archives(source, archives, official)
    with ExitStack() as stack:
        stack.enter_context(claimed(work))
        if (target / MANIFEST).is_file():
            return check_prepared(target, official), False
        partial = work / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        remove_stale(work, source, archives, official)
        say(f"{source.builder}: building")
        job = Job(
            source.builder,
            str(archives.absolute()),
            str(work / "downloads"),
            str(work / "data"),
            str(partial),
            official,
        )
        try:
            manifest = builder.build(job)
        except UserError:
            # What was built is suspect; what was fetched is not.
            shutil.rmtree(work / "data", ignore_errors=True)
            raise
        for warning in manifest.warnings:
            say(f"warning: {warning}")
        os.rename(partial, target)
    clean(work)
    return manifest, True


def clean(work: Path) -> None:
    """Remove what was fetched, unpacked and built on the way."""
    shutil.rmtree(work, ignore_errors=True)
    with contextlib.suppress(OSError):  # other sources may be at work beside it
        work.parent.rmdir()


def check_prepared(target: Path, official: bool) -> Manifest:
    """The manifest of what is prepared, after a look at every byte. Raises UserError."""
    again = "start this command again"
    manifest = read_manifest(target, again)
    wrong = next(changed(target, manifest, list(manifest.files)), None)
    if wrong:
        raise UserError(f"{wrong}; remove {target} and {again}")
    if official and not manifest.official:
        raise UserError(
            f"{target} was prepared with data.official=false; keep it with data.official=false, or remove it and "
            f"{again} with the official files"
        )
    return manifest


def check_archives(source: Source, archives: Path, official: bool) -> None:
    """Raise UserError for downloads that are missing and must be fetched by hand, or have another size."""
    missing = [file.name for file in source.files if not (archives / file.name).exists()]
    if source.by_hand and missing and missing != ["retinopathy_solution.csv"]:
        job = Job(source.builder, str(archives), "", "", "", official)
        raise UserError(fetch(source, missing, job, f"{'is' if len(missing) == 1 else 'are'} missing"))
    for file in source.files:
        path = archives / file.name
        if file.bytes and not path.exists() and archives.is_dir():
            twin = next((other for other in sorted(archives.iterdir()) if other.stat().st_size == file.bytes), None)
            if twin is not None:
                raise UserError(f"{twin} has the size of {file.name}; if it is that, give it this name")
        if official and file.bytes is not None and path.is_file() and path.stat().st_size != file.bytes:
            raise UserError(
                f"{path} has {path.stat().st_size:,} bytes and not {file.bytes:,}: it is cut off, or another file; "
                f"fetch it again from {source.page}, or accept it as it is with data.official=false"
            )


def remove_stale(work: Path, source: Source, archives: Path, official: bool) -> None:
    """Remove what a killed process left half built, and all that was made of other archives than are here now."""
    places = [archives / file.name for file in source.files]
    made_of = json.dumps([official, *(state for place in places for state in states(place))])
    note = work / "made_of.json"
    if not note.is_file() or note.read_text() != made_of:
        for name in ("data", "downloads/extracted"):
            shutil.rmtree(work / name, ignore_errors=True)
        write_text(note, made_of)
    for path in [*(work / "data").glob("**/*incomplete*"), *(work / "downloads").glob("**/*incomplete*")]:
        shutil.rmtree(path, ignore_errors=True)


def states(place: Path) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of change of a file, or of every file in a folder; nothing if there is none."""
    paths = sorted(place.rglob("*")) if place.is_dir() else [place] if place.exists() else []
    for path in paths:
        stat = path.stat()
        yield str(path), stat.st_size, stat.st_mtime_ns

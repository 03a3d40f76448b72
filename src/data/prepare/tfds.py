"""python -m src.data.prepare.tfds: the only process that loads TensorFlow; started by src.prepare, which it serves.

Reads a job a line from stdin, as JSON, and answers each with a line of JSON. It ends with whoever started it.
"""

import errno
import importlib.util
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from src.data.prepare.packing import UNDECODABLE, check_counts, pack, slices
from src.data.vtab.pack import Manifest
from src.data.vtab.tasks import SOURCES, Source
from src.records import UserError

PATIENCE = 10.0
"""Seconds that a server may take to answer before it counts as out of reach."""


@dataclass(frozen=True)
class Job:
    """One source to build.

    archives: where the downloads lie. downloads: where what is fetched and unpacked goes; data: what
    tensorflow-datasets makes of it; target: the prepared folder to make.
    """

    source: str
    archives: str
    downloads: str
    data: str
    target: str
    official: bool


def serve() -> None:
    """Answer jobs until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # What libraries print must not come between the answers; what has gone wrong, and bars, are on stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    jobs: queue.Queue[str] = queue.Queue()
    threading.Thread(target=listen, args=(jobs,), daemon=True).start()
    while True:
        answer: dict[str, Any]  # a fault of our own ends the process with its traceback
        try:
            answer = {"manifest": asdict(build(Job(**json.loads(jobs.get()))))}
        except UserError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def listen(jobs: "queue.Queue[str]") -> None:
    """Pass stdin's lines on; end the process, whatever it is doing, when there are no more: its owner is gone."""
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)


def build(job: Job) -> Manifest:
    """Let tensorflow-datasets build one source, unless it has, and write its prepared folder. Raises UserError."""
    source = SOURCES[job.source]
    builder = builder_of(source, job.data)
    warnings = [] if job.official else accept_archives(source, Path(job.archives))
    if not (Path(builder.data_dir) / "dataset_info.json").is_file():
        check_within_reach(source, job)
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(manual_dir=job.archives, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_dir=job.downloads, download_config=config)
    except Exception as error:  # TensorFlow, the builders and the HTTP library raise of every kind
        raise UserError(sentence(source, job, error)) from error
    counts = {name: info.num_examples for name, info in builder.info.splits.items()}
    wrong = check_counts(source, counts)
    if wrong and job.official:
        raise UserError(f"{'; '.join(wrong)}; fetch the official files, or accept these with data.official=false")
    names = class_names(builder.info.features)
    found = slices(source, counts)
    examples = {split: read(builder, str(cut), cut.stop - cut.start) for split, cut in found.items()}
    made_with = {"tensorflow-datasets": tfds.__version__}
    try:
        return pack(source, examples, names, Path(job.target), job.official, warnings + wrong, made_with)
    except OSError as error:
        raise UserError(sentence(source, job, error)) from error


def class_names(features: Any) -> list[str] | None:
    """What the source calls its classes, if it does."""
    names = getattr(features["label"], "names", None) if "label" in features else None
    return list(names) if names else None


def builder_of(source: Source, data: str) -> Any:
    """The builder in the version that is known to give VTAB's examples. Raises UserError."""
    missing = [name for name in source.needs if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"building {source.builder} needs {', '.join(missing)}; {INSTALL}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow_datasets as tfds

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        return tfds.builder(source.full_name, data_dir=data, file_format="array_record")
    except Exception as error:  # an unknown version is an AssertionError, an unknown name an error of its own
        raise UserError(
            f"tensorflow-datasets {tfds.__version__} cannot make {source.full_name} ({first_line(error)}); {INSTALL}"
        ) from error


INSTALL = "install what the preparation needs: pip install 'toast-transfer[prepare]' (a clone: make setup)"


def url_infos(source: Source) -> dict[str, Any]:
    """Size, checksum and file name of every download, by address; what is built already has none of its own."""
    import tensorflow_datasets as tfds

    return dict(tfds.builder_cls(source.builder).url_infos or {})


def accept_archives(source: Source, archives: Path) -> list[str]:
    """Let the builder take the archives that lie there as they are; a sentence for each other one."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import checksums

    known = url_infos(source)
    warnings = []
    for url, info in known.items():
        path = archives / info.filename
        if path.is_file():
            own = checksums.compute_url_info(path)
            if (own.size, own.checksum) != (info.size, info.checksum):
                known[url] = own
                warnings.append(f"{path.name} is not the official file")
    tfds.builder_cls(source.builder).url_infos = known
    return warnings


def check_within_reach(source: Source, job: Job) -> None:
    """Raise UserError if something is neither there nor can be fetched: tensorflow-datasets would try for minutes."""
    import requests
    from tensorflow_datasets.core.download import resource

    missing = [file.name for file in source.files if not (Path(job.archives) / file.name).exists()]
    for url, info in url_infos(source).items():
        fetched = Path(job.downloads) / resource.get_dl_fname(url, info.checksum)
        if info.filename not in missing or fetched.exists():
            continue
        try:
            with requests.get(url, timeout=PATIENCE, stream=True) as answer:
                answer.raise_for_status()
        except requests.RequestException as error:
            raise UserError(
                fetch(source, missing, job, f"cannot be fetched from here ({first_line(error)})")
            ) from error


def fetch(source: Source, missing: list[str], job: Job, why: str) -> str:
    """The sentence on what to fetch by hand."""
    sizes = {file.name: f" ({file.bytes:,} bytes)" if file.bytes else "" for file in source.files}
    names = ", ".join(f"{name}{sizes[name]}" for name in missing)
    return (
        f"{names} of {source.builder} {why}; fetch it from {source.page}, keep its name, and put it into "
        f"{job.archives} or the folder that you give with data.archives="
    )


def read(builder: Any, cut: str, count: int) -> Iterator[dict[str, Any]]:
    """The examples of a slice in their one order, images still encoded."""
    if not count:
        return
    import tensorflow_datasets as tfds

    kinds = builder.info.features
    images = {name: tfds.decode.SkipDecoding() for name in kinds if isinstance(kinds[name], tfds.features.Image)}
    yield from builder.as_data_source(split=cut, decoders=images)


def sentence(source: Source, job: Job, error: Exception) -> str:
    """What went wrong while building, in one sentence."""
    words = str(error)
    kind = type(error).__name__
    full = ("No space left", "File too large", "Disk quota exceeded")
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(w in words for w in full):
        place = Path(job.target).parent
        return f"there is no space left to build {source.builder} below {place}; free some and start again"
    if kind == "NonMatchingChecksumError":
        name = next((file.name for file in source.files if file.name in words), "one of its archives")
        return (
            f"{name} of {source.builder} is not the official file: its checksum differs, it was damaged or changed; "
            f"fetch it again from {source.page}, or accept it as it is with data.official=false"
        )
    if kind == "ConnectionError":
        missing = [file.name for file in source.files if not (Path(job.archives) / file.name).exists()]
        return fetch(source, missing, job, "could not be fetched")
    if source.by_hand and (path := damaged(source, Path(job.archives))) is not None:
        return f"the image {path} cannot be decoded; fetch it again"
    if "cv2" in source.needs:
        words = "most likely an image in its archives is damaged"
        return f"tensorflow-datasets could not build {source.builder}: {words} ({kind}: {first_line(error)})"
    return f"tensorflow-datasets could not build {source.builder} ({kind}: {first_line(error)}); fetch its files again"


def damaged(source: Source, archives: Path) -> Path | None:
    """The first image that cannot be decoded among the folders of a source that comes unpacked."""
    for place in (archives / file.name for file in source.files):
        for path in sorted(place.rglob("*.jp*g")) if place.is_dir() else []:
            try:
                with Image.open(path) as image:
                    image.load()
            except UNDECODABLE:
                return path
    return None


def first_line(error: Exception) -> str:
    """The beginning of an error's words."""
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:300]


if __name__ == "__main__":
    serve()

"""Preparing VTAB: the right examples proved, other files refused unless they are accepted, failures in sentences."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from src import prepare as command
from src.data.prepare import vtab
from src.data.prepare.tfds import Job
from src.data.prepare.vtab import Builder
from src.data.vtab.module import Vtab
from src.data.vtab.pack import is_proved, read_manifest
from src.data.vtab.tasks import SOURCES
from src.records import UserError
from tests import vtab_archives

PROJECT = Path(__file__).parents[2]

GOLDEN = {
    "eurosat": (
        "2a2d9a1c3370755c0717a420efbeb5501b2db4ed7dabfd9c9db423e092101c68",
        "b13e8f5667551e03061a1638d248de14cf780a43f2c0f9488106cd04332076f3",
        [800, 200, 5400],
    ),
}


def prepare(task: str, root: Path, *more: str) -> int:
    return command.main(["data=vtab", f"data.task={task}", f"data.root={root}", *more])


@pytest.mark.slow
@pytest.mark.parametrize("task", GOLDEN)
def test_the_official_names_give_vtabs_examples(
    task: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    getattr(vtab_archives, f"{task}_full")(tmp_path)
    assert prepare(task, tmp_path, "data.official=false") == 0
    train, val, sizes = GOLDEN[task]
    manifest = read_manifest(tmp_path / task, "")
    # Keys and labels are compared with the golden ones; of what was compared, only the archive is not the official one.
    assert manifest.warnings == [f"{SOURCES[task].files[0].name} is not the official file"]
    assert is_proved(manifest)
    assert (manifest.keys["train"], manifest.keys["val"], list(manifest.splits.values())) == (train, val, sizes)
    assert "VTAB's examples, not official" in capfd.readouterr().out
    table = Vtab(task, str(tmp_path), official=False).table
    assert ([len(images.labels) for images in table.splits.values()], table.official) == ([1000, 0, sizes[2]], False)
    with pytest.raises(UserError, match=r"was accepted with data\.official=false; use it with data\.official=false"):
        _ = Vtab(task, str(tmp_path)).table
    assert prepare(task, tmp_path) == 2
    assert "was prepared with data.official=false; keep it with" in capfd.readouterr().err


def test_a_file_of_another_size_is_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vtab_archives.svhn_cropped(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert prepare("svhn", tmp_path) == 2
    said = capsys.readouterr().err
    assert "train_32x32.mat has " in said and " bytes and not 182,040,794: it is cut off, or another file" in said
    assert said.splitlines()[-1] == "not prepared: svhn_cropped"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_of_the_right_size_and_other_bytes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = SOURCES["dsprites"].files
    with (tmp_path / file.name).open("wb") as sparse:
        sparse.truncate(file.bytes)
    assert prepare("dspr_loc", tmp_path) == 2
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"{file.name} of dsprites is not the official file: its checksum differs" in sentence
    assert "dsprites-dataset" in sentence and "data.official=false" in sentence
    assert not (tmp_path / "dsprites").exists()


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ("resisc45", "NWPU-RESISC45 of resisc45 is missing; fetch it from https://gcheng-nwpu.github.io"),
        ("retinopathy", "train, test, sample, trainLabels.csv, retinopathy_solution.csv (1,181,257 bytes) of diabetic"),
    ],
)
def test_what_must_be_fetched_by_hand_is_named_with_its_page(
    task: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archives = tmp_path / "archives"
    archives.mkdir()
    assert prepare(task, tmp_path / "data", f"data.archives={archives}", "data.official=false") == 2
    said = capsys.readouterr().err
    assert sentence in said and f"put it into {archives} or" in said
    assert not (tmp_path / "data").exists()


def test_words_that_cannot_be_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        (["data.task=cifar10"], "data.task=cifar10 is none of VTAB's tasks; near it are cifar100"),
        (["data.task=[dtd,svhn]"], "is none of VTAB's tasks"),
        ([], "which task? give data.task="),
        (["data.task=dtd", "data.official=maybe"], "data.official=maybe is neither true nor false"),
        (["data.task=dtd", f"data.archives={tmp_path}/nowhere"], "nowhere is no folder"),
    ):
        assert command.main(["data=vtab", f"data.root={tmp_path}", *words]) == 2, words
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1, said
    assert os.listdir(tmp_path) == []


# What fails in the process that runs TensorFlow

SABOTAGE = """
import dataclasses, os, signal
from src.data.prepare import tfds
from src.data.vtab import pack
sources = tfds.SOURCES
sources["svhn_cropped"] = dataclasses.replace(sources["svhn_cropped"], version="9.9.9")
sources["resisc45"] = dataclasses.replace(sources["resisc45"], needs=("no_such_package",))
plain, start = tfds.build, pack.Writer.__init__
def build(job):
    if job.source == "cifar100":
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(job)
def full(self, folder, tasks):
    start(self, folder, tasks)
    if {"eurosat", "dspr_loc"} & set(tasks):
        self.file.close()
        self.file = open("/dev/full", "wb", buffering=0 if "eurosat" in tasks else 1 << 24)  # at once, or at the end
tfds.build, pack.Writer.__init__ = build, full
tfds.serve()
"""


def start(code: str) -> subprocess.Popen[str]:
    """The process that serves, after some code of ours, and without a network."""
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=os.environ | nowhere | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Path]:
    """What was said of each source, and the root."""
    folder = tmp_path_factory.mktemp("sabotage")
    for builder in ("cifar100", "eurosat", "dsprites", "svhn_cropped", "resisc45", "smallnorb"):
        vtab_archives.WRITERS[builder](folder)

    said: dict[str, str] = {}
    words = io.StringIO()
    tasks = ["cifar100", "svhn", "resisc45", "pets", "eurosat", "dspr_loc", "snorb_azim"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(words):
        patch.setattr(vtab, "start", lambda: start(SABOTAGE))
        for source, _, _ in vtab.prepare(tasks, folder / "data", folder, official=False):
            said[source.builder] = words.getvalue()
            words.seek(words.truncate(0))
    return said, folder / "data"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("cifar100", "the process that builds cifar100 ended with -9; memory may have run out: free some"),
        ("svhn_cropped", "cannot make svhn_cropped:9.9.9"),
        ("svhn_cropped", "pip install 'toast-transfer[prepare]'"),
        ("resisc45", "building resisc45 needs no_such_package; install what the preparation needs: pip install"),
        ("oxford_iiit_pet", "images.tar.gz (791,918,971 bytes), annotations.tar.gz (19,173,078 bytes)"),
        ("oxford_iiit_pet", "cannot be fetched from here ("),
        ("eurosat", "there is no space left"),
        ("dsprites", "there is no space left"),
    ],
)
def test_what_fails_is_a_sentence(source: str, sentence: str, failed: tuple[dict[str, str], Path]) -> None:
    said, root = failed
    errors = [line for line in said[source].splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert sentence in errors[0]
    assert not (root / source).exists()


def test_and_the_next_source_goes_on(failed: tuple[dict[str, str], Path]) -> None:
    said, root = failed
    assert "error" not in said["smallnorb"]
    assert len(Vtab("snorb_azim", str(root), official=False).table.splits["test"].labels) == 12


# A miniature that passes for official once it is built, and a first run that dies before it is packed
UNPACKED = """
import dataclasses, os, signal
from src.data.prepare import packing, tfds
from src.data.vtab.tasks import Golden
source = tfds.SOURCES["dsprites"]
tfds.SOURCES["dsprites"] = dataclasses.replace(source, sizes={"train": (50,)})
packing.golden = lambda: Golden({}, {})
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_what_was_built_of_accepted_files_is_never_called_official(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vtab_archives.dsprites(tmp_path)
    for official, code in ((False, "tfds.pack = die\ntfds.serve()"), (True, "tfds.serve()")):
        monkeypatch.setattr(vtab, "start", lambda code=code: start(UNPACKED + code))
        ((_, manifest, _),) = vtab.prepare(["dspr_loc"], tmp_path / "data", tmp_path, official=official)
        assert manifest is None
        (tmp_path / SOURCES["dsprites"].files[0].name).unlink(missing_ok=True)
    assert "cannot be fetched from here" in capsys.readouterr().err


def test_a_builder_that_ended_between_two_sources_is_a_sentence(tmp_path: Path) -> None:
    with Builder() as builder:
        builder.process = start("")
        builder.process.wait()
        with pytest.raises(UserError, match="the process that builds dsprites ended with 0"):
            builder.build(Job("dsprites", "", "", "", str(tmp_path), False))

"""Preparing that is killed, finds no space, is started twice, or may not write."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from src import prepare as command
from src.data.fgvc import ARCHIVES, Fgvc
from src.data.prepare import fgvc, unpack
from src.data.prepare.archives import DOWNLOADS
from src.data.prepare.fgvc import MARKS, prepare
from src.records import Claim, UserError
from tests.data.pack import MINIATURE, archives, counts, extract, images, leftovers, miniature, pack, publish

PROJECT = Path(__file__).parents[2]


def test_no_space_is_a_sentence_and_the_second_run_goes_on(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = images("flowers", made["flowers"], False)
    first, *_, last = pictures
    paths = miniature("flowers", made, tmp_path, monkeypatch)
    paths[0] = pack(tmp_path / "102flowers.tgz", pictures | {last: os.urandom(200_000)})
    publish("flowers", paths, monkeypatch)
    root = tmp_path / "oxford_flowers"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match=r"no space left to unpack .*102flowers\.tgz .* goes on from there"):
            prepare("flowers", root, subset=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(UserError):
        _ = Fgvc("flowers", str(root), subset=True).table
    (partial,) = root.glob(".102flowers.tgz.*.partial")
    kept = (partial / "files" / first).stat()
    prepare("flowers", root, subset=True)
    assert counts("flowers", root) == MINIATURE
    now = (root / first).stat()
    assert (now.st_ino, now.st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)
    assert (root / last).stat().st_size == 200_000
    assert leftovers(tmp_path) == []


def test_what_is_there_with_the_right_size_and_other_bytes_is_written_again(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    path = pack(tmp_path / "birds.tgz", {"a.jpg": content, "b.jpg": content})
    extract(path, tmp_path)
    (tmp_path / "a.jpg").write_bytes(content[:2_000_000] + bytes(1_000_000))
    (tmp_path / "b.jpg").write_bytes(bytes(10))
    extract(path, tmp_path)
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes() == content


def die_after(calls: int, place: Any, name: str) -> None:
    """Have the function end this process as kill -9 does, at one of its calls."""
    plain, made = getattr(place, name), []

    def dying(*arguments: Any, **named: Any) -> Any:
        made.append(None)
        if len(made) > calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*arguments, **named)

    setattr(place, name, dying)


MOMENTS: dict[str, list[tuple[Any, str, list[int]]]] = {
    "cub": [
        (unpack, "write", [5]),
        (os, "sync", [0, 1]),
        (os, "replace", [0, 2, 4, 5, 6]),
        (fgvc, "write_text", [0]),
        (shutil, "rmtree", [0, 1]),
    ],
    "dogs": [(unpack, "write", [10]), (os, "replace", [1, 2, 4])],
}


@pytest.mark.parametrize(
    ("data", "place", "name", "calls"),
    [
        (data, place, name, calls)
        for data, moments in MOMENTS.items()
        for place, name, numbers in moments
        for calls in numbers
    ],
)
def test_killed_at_any_moment(
    data: str, place: Any, name: str, calls: int, made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    miniature(data, made, tmp_path, monkeypatch)
    root = tmp_path / ARCHIVES[data].folder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the threads that a fork leaves behind; there are none that matter
        child = os.fork()
    if child == 0:
        die_after(calls, place, name)
        prepare(data, root, subset=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == signal.SIGKILL
    for given in (root, tmp_path):
        try:
            assert counts(data, given) == MINIATURE
        except UserError:
            continue
    prepare(data, root, subset=True)
    assert counts(data, root) == MINIATURE
    assert set(json.loads((root / MARKS).read_text())) == {one.name for one in DOWNLOADS[data]}
    assert [name for name in leftovers(tmp_path) if name != "claim.json"] == []


def test_the_command_killed_in_the_middle(made: dict[str, Path], tmp_path: Path) -> None:
    archives("cub", made["cub"], tmp_path, whole=True)
    root = tmp_path / "CUB_200_2011"
    words = [sys.executable, "-m", "src.prepare", "data=fgvc/cub", f"data.root={root}", "data.official=false"]
    process = subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while len(list(root.glob(".*.partial/files/images/*"))) < 100 and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(UserError, match=rf"is being prepared by process {process.pid} on "):
        prepare("cub", root, official=False)
    process.kill()
    process.wait()
    for given in (root, tmp_path):
        with pytest.raises(UserError, match=r"has no images\.txt"):
            _ = Fgvc("cub", str(given)).table
    assert prepare("cub", root, official=False).table.official
    assert leftovers(tmp_path) == []


def test_two_at_once_and_a_folder_that_may_not_be_written_to(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    miniature("dogs", made, tmp_path, monkeypatch)
    root = tmp_path / "stanford_dogs"
    with (
        Claim(root),
        pytest.raises(UserError, match=rf"{root} is being prepared by process {os.getpid()} on {os.uname().nodename}"),
    ):
        prepare("dogs", root, subset=True)

    def refuse(claim: Claim) -> Claim:
        raise OSError(30, "Read-only file system", str(claim.path))

    with monkeypatch.context() as patch:
        patch.setattr(Claim, "__enter__", refuse)
        with pytest.raises(UserError, match=r"nothing can be written there \(Read-only file system\)"):
            prepare("dogs", root, subset=True)
    prepare("dogs", root, subset=True)


def test_ctrl_c(made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    miniature("dogs", made, tmp_path, monkeypatch)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(unpack, "write", interrupt)
    assert command.main(["data=fgvc/dogs", f"paths.data={tmp_path}"]) == 130
    assert not (tmp_path / "stanford_dogs" / "claim.json").exists()

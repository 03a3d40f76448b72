"""The commands that must answer at once, and the doctor: what they say, how they end, what they import."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from src.config.manual import CONF, choices, manual
from src.list import EXPERIMENTS, GROUPS, TABLES, tables

PROJECT = CONF.parent
BROKEN_TORCHVISION = 'raise RuntimeError("operator torchvision::nms does not exist")'


def python(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run python as a user would who stands in another folder."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TOAST_") and key != "COLUMNS"}
    path = os.pathsep.join(filter(None, [environment.pop("first_on_path", ""), str(PROJECT)]))
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**kept, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "code",
    ["from src.list import main; main([])", "from src.config.manual import manual; print(manual())"],
)
def test_what_must_answer_at_once_imports_neither_torch_nor_hydra(code: str, tmp_path: Path) -> None:
    check = "import sys; print({'torch', 'hydra', 'omegaconf'} & {name.split('.')[0] for name in sys.modules})"
    done = python("-c", f"{code}; {check}", folder=tmp_path)
    assert done.stdout.splitlines()[-1] == "set()", done.stdout + done.stderr


@pytest.mark.parametrize("command", [["src.list"], ["src.train", "--help"], ["src.doctor"]])
def test_a_reader_that_leaves_early_is_no_error(command: list[str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, "-m", *command], cwd=PROJECT, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


def test_list_names_every_option_of_its_groups_without_escapes(tmp_path: Path) -> None:
    done = python("-m", "src.list", folder=tmp_path, COLUMNS="200")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    shown = [line.split(maxsplit=1)[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert shown == [*(option for group in GROUPS.values() for option in choices(group)), *tables()]


def test_list_fits_a_narrow_terminal_and_loses_nothing(tmp_path: Path) -> None:
    done = python("-m", "src.list", "methods", folder=tmp_path, COLUMNS="40")
    assert max(map(len, done.stdout.splitlines())) <= 40
    wide = python("-m", "src.list", "methods", folder=tmp_path, COLUMNS="200")
    assert "".join(done.stdout.split()).startswith("methodsmethod=...custom")
    assert sorted("".join(done.stdout.split())) == sorted("".join(wide.stdout.split()))


def test_list_answers_an_unknown_group_with_the_right_ones(tmp_path: Path) -> None:
    done = python("-m", "src.list", "metods", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"there is no group metods; give one of {', '.join(GROUPS)}, {TABLES}\n"


def test_list_names_the_papers_tables_by_their_titles(tmp_path: Path) -> None:
    done = python("-m", "src.list", "tables", folder=tmp_path, COLUMNS="200")
    assert (done.returncode, done.stderr) == (0, "")
    title, *lines = done.stdout.splitlines()
    assert title.startswith("tables  experiments/")
    assert [line.split(maxsplit=1)[0] for line in lines] == sorted(folder.name for folder in EXPERIMENTS.iterdir())
    assert all(line.split(maxsplit=1)[1].startswith("Table ") for line in lines)


@pytest.mark.parametrize("group", GROUPS.values())
def test_every_option_says_what_it_is(group: str) -> None:
    about = choices(group)
    assert about
    assert all(about.values()), about


def test_the_manual_is_short_and_names_what_there_is() -> None:
    lines = manual().splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100
    words = set(manual().split())
    for group in ("experiment", "method", "data", "backbone"):
        assert {part for option in choices(group) for part in option.replace("/", "/ ").split()} <= words


def test_doctor_finds_that_training_can_run_here(tmp_path: Path) -> None:
    runs, data = tmp_path / "my runs", tmp_path / "a=b, [c] ü"
    (data / "CUB_200_2011").mkdir(parents=True)
    done = python("-m", "src.doctor", f"paths.runs={runs}", f"paths.data={data}", folder=tmp_path, COLUMNS="300")
    assert (done.returncode, done.stderr) == (0, "")
    assert "work together" in done.stdout
    assert f"free at {runs}" in done.stdout
    assert f"in {data}/CUB_200_2011" in done.stdout
    assert done.stdout.endswith("Training can run.\n")
    assert not runs.exists()


def test_doctor_explains_a_torchvision_that_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision/__init__.py").write_text(BROKEN_TORCHVISION)
    blocked = tmp_path / "file"
    blocked.touch()
    done = python(
        "-m", "src.doctor", f"paths.runs={blocked}", folder=tmp_path, first_on_path=str(tmp_path), COLUMNS="300"
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "do not work together (operator torchvision::nms does not exist)" in done.stdout
    assert "-m pip install" in done.stdout
    assert "torch==" in done.stdout
    assert f"{blocked} cannot be written to" in done.stdout
    assert done.stdout.endswith("Training cannot run before this is mended: torch and torchvision, room.\n")


def test_doctor_ends_in_a_sentence_where_nothing_is_installed(tmp_path: Path) -> None:
    done = python("-S", "-m", "src.doctor", folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("broken: python ")
    assert "make setup" in done.stdout
    assert "Traceback" not in done.stderr


def test_doctor_refuses_what_is_not_its_own(tmp_path: Path) -> None:
    done = python("-m", "src.doctor", "data=fgvc/cub", folder=tmp_path)
    assert done.returncode == 2
    assert "data=fgvc/cub is not for this command" in done.stderr

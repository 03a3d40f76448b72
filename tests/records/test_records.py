"""Records, names, claims and files: whole or absent, one owner, one name for one result."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from src.config.check import without_defaults
from src.config.compose import compose_config
from src.records import Busy, Claim, Record, UserError, atomic, config_hash, identity, publish, read_record, write_text
from src.records import claim as claim_module


def hashed(*arguments: str, weights: str = "w", data: str = "d", init: str | None = None) -> str:
    config = without_defaults(compose_config(["experiment=fgvc/toast", *arguments]))
    return config_hash(identity(config, {"sha256": weights}, {"fingerprint": data}, init))


SAME = [
    ["paths.runs=/elsewhere"],
    ["data.root=/elsewhere"],
    ["data.workers=3"],
    ["logger=wandb"],
    ["trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2"],
    ["trainer=cpu"],
    ["trainer.threads=1"],
    ["ckpt=none"],
    ["force=true"],
    ["trainer.gradient_clip_val=null", "data.same_epoch=false"],
    ["+callbacks.mine._target_=lightning.pytorch.callbacks.LearningRateMonitor"],
]
OTHER = [
    ["seed=44"],
    ["optim.lr=0.1"],
    ["optim.schedule=step"],
    ["method.drop_path=0"],
    ["method=toast_lite"],
    ["trainer.max_epochs=3"],
    ["trainer.precision=bf16-mixed"],
    ["data.batch_size=16"],
    ["data.normalisation=backbone"],
    ["preset=paper"],
    ["stage=tune"],
]


@pytest.mark.parametrize("arguments", SAME, ids=lambda a: a[0])
def test_what_changes_no_result_changes_no_name(arguments: list[str]) -> None:
    assert hashed(*arguments) == hashed()


def test_what_changes_a_result_changes_the_name() -> None:
    names = [hashed(*arguments) for arguments in OTHER]
    names += [hashed(weights="other"), hashed(data="other"), hashed(init="sha"), hashed()]
    assert len(set(names)) == len(OTHER) + 4


def a_record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "name": "r", "status": "finished", "experiment": None, "stage": "single", "method": "toast",
        "preset": "official", "options": {}, "dataset": "cub", "task": None, "split": {}, "official": True,
        "fingerprint": "", "backbone": {},
        "init": {}, "preprocessing": {}, "seed": 0, "config_hash": "", "optim": {}, "epochs": 1, "batch_size": 1,
        "precision": "32-true", "devices": [], "threads": 1, "marks": [],
    }  # fmt: skip
    return Record(**(fields | changes))


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    a_record(marks=["own recipe"], metrics={"test/accuracy": 0.1 + 0.2}).write(tmp_path)
    record = read_record(tmp_path)
    assert record == a_record(marks=["own recipe"], metrics={"test/accuracy": 0.1 + 0.2})


def test_a_record_is_plain_json_even_after_a_nan(tmp_path: Path) -> None:
    a_record(metrics={"train/loss": float("nan")}, cost={"x": [float("inf")]}).write(tmp_path)
    values = json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)
    assert values["metrics"]["train/loss"] is None


@pytest.mark.parametrize("change", ["torn", {"schema": 99}, {"status": "done"}, {"extra": 1}, "[]"])
def test_a_record_that_cannot_be_understood_is_a_sentence(tmp_path: Path, change: Any) -> None:
    a_record().write(tmp_path)
    text = (tmp_path / "result.json").read_text()
    changed = json.dumps(json.loads(text) | change) if isinstance(change, dict) else change
    (tmp_path / "result.json").write_text(text[:50] if change == "torn" else changed)
    with pytest.raises(UserError, match=r"result\.json"):
        read_record(tmp_path)


def test_an_atomic_file_is_whole_or_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic(path) as file:
        file.write(b"half")
        _ = 1 / 0
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_a_sentence_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(UserError, match="no space left"):
            write_text(path, "x" * (1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_second_owner_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    with Claim(tmp_path) as first:
        assert first.is_held()
        with pytest.raises(UserError, match=rf"process {os.getpid()} on "), Claim(tmp_path):
            pass
        assert first.is_held()
    with Claim(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_owner_is_succeeded_at_once(tmp_path: Path) -> None:
    script = f"""
        import os, signal
        from pathlib import Path
        from src.records import Claim
        Claim(Path({str(tmp_path)!r})).__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert (tmp_path / "claim.json").exists()
    with Claim(tmp_path) as claim:
        assert claim.is_held()


def test_a_recycled_process_number_is_not_the_owner(tmp_path: Path) -> None:
    with Claim(tmp_path) as claim:
        content = json.loads(claim.path.read_text())
    (tmp_path / "claim.json").write_text(json.dumps(content | {"started": "1"}))
    with Claim(tmp_path) as claim:
        assert claim.is_held()


def elsewhere(tmp_path: Path) -> dict[str, Any]:
    with Claim(tmp_path) as claim:
        content: dict[str, Any] = json.loads(claim.path.read_text())
    return content | {"host": "another-machine", "token": "other"}


def test_an_owner_elsewhere_counts_as_gone_only_when_its_counter_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_module, "BEAT", 0.05)
    content = elsewhere(tmp_path)
    path = tmp_path / "claim.json"
    path.write_text(json.dumps(content))
    stop = threading.Event()

    def beat() -> None:
        beats = 0
        while not stop.wait(0.01):
            beats += 1
            write_text(path, json.dumps(content | {"beats": beats}))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(UserError, match="another-machine"), Claim(tmp_path):
            pass
    finally:
        stop.set()
        thread.join()
    with Claim(tmp_path) as claim:
        assert claim.is_held()


def test_an_owner_that_lost_its_claim_leaves_the_new_one_alone(tmp_path: Path) -> None:
    content = elsewhere(tmp_path)
    with Claim(tmp_path) as claim:
        write_text(claim.path, json.dumps(content))
        assert not claim.is_held()
    assert json.loads((tmp_path / "claim.json").read_text())["token"] == "other"


def test_a_suspended_owner_loses_its_claim_and_learns_it_when_it_wakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from src.records import Claim, Lost\n"
        "from src.records import claim; claim.BEAT = 0.1\n"
        "with Claim(Path(sys.argv[1])) as held:\n"
        "    print('held', flush=True); sys.stdin.readline()\n"
        "    time.sleep(0.3)\n"
        "    try: held.require()\n"
        "    except Lost as error: print('lost', flush=True)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert owner.stdin is not None and owner.stdout is not None
    assert owner.stdout.readline() == "held\n"
    monkeypatch.setattr("src.records.claim.BEAT", 0.1)
    with pytest.raises(Busy, match=f"is being computed by process {owner.pid}"), Claim(tmp_path):
        pass
    owner.send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    with Claim(tmp_path) as taken:
        owner.send_signal(signal.SIGCONT)
        assert owner.communicate("go on\n")[0] == "lost\n"
        assert taken.is_held()


def test_a_disk_without_links_publishes_once_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    assert publish(tmp_path / "once", "first") and not publish(tmp_path / "once", "second")
    assert (tmp_path / "once").read_text() == "first" and len(list(tmp_path.iterdir())) == 1
    with Claim(tmp_path / "run"), pytest.raises(Busy), Claim(tmp_path / "run"):
        pass
